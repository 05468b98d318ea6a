"""The job kinds of allocation."""

from domain.allocation import commands, placing, services
from domain.jobs.kinds import JobKind

QUEUE = "allocation"

KINDS = (
    JobKind(command=commands.CreateBatch, handler=services.create_batches, queue=QUEUE),
    JobKind(
        command=commands.ChangeBatchQuantity,
        handler=services.change_batch_quantities,
        queue=QUEUE,
    ),
    JobKind(command=commands.ChangeBatchEta, handler=services.change_batch_etas, queue=QUEUE),
    JobKind(command=commands.AllocateOrder, handler=placing.allocate_orders, queue=QUEUE),
    JobKind(
        command=commands.ChangeLineQuantity,
        handler=services.change_line_quantities,
        queue=QUEUE,
    ),
    JobKind(command=commands.DeallocateLine, handler=services.deallocate_lines, queue=QUEUE),
    JobKind(command=commands.CancelOrder, handler=services.cancel_orders, queue=QUEUE),
)
