"""The job kinds of allocation."""

from domain.allocation import commands, placing, services
from domain.jobs.kinds import JobKind

QUEUE = "allocation"

KINDS = (
    JobKind(
        command=commands.CreateBatch,
        handler=services.create_batches,
        queue=QUEUE,
        about="batch {reference}: {quantity} of {sku}",
    ),
    JobKind(
        command=commands.ChangeBatchQuantity,
        handler=services.change_batch_quantities,
        queue=QUEUE,
        about="batch {reference}: quantity {quantity}",
    ),
    JobKind(
        command=commands.ChangeBatchEta,
        handler=services.change_batch_etas,
        queue=QUEUE,
        about="batch {reference}: eta {eta}",
    ),
    JobKind(
        command=commands.AllocateOrder,
        handler=placing.allocate_orders,
        queue=QUEUE,
        about="order {order_id}, {lines}",
    ),
    JobKind(
        command=commands.ChangeLineQuantity,
        handler=services.change_line_quantities,
        queue=QUEUE,
        about="order {order_id}, line {line_id}: quantity {quantity}",
    ),
    JobKind(
        command=commands.DeallocateLine,
        handler=services.deallocate_lines,
        queue=QUEUE,
        about="order {order_id}, line {line_id}",
    ),
    JobKind(
        command=commands.CancelOrder,
        handler=services.cancel_orders,
        queue=QUEUE,
        about="order {order_id}",
    ),
)
