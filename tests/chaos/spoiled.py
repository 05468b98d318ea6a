"""Ways to spoil the good run, for each rule one at least."""

from dataclasses import dataclass

from tests.chaos import audit_trail

# Takes away what keeps such a state out of the database; the trail stays.
UNLOCK = f"""
DO $$
DECLARE held record;
BEGIN
    FOR held IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
                WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', held.place, held.conname);
    END LOOP;
    FOR held IN SELECT tgrelid::regclass AS place, tgname FROM pg_trigger
                WHERE NOT tgisinternal AND tgname NOT LIKE '{audit_trail.TABLE}%' LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', held.tgname, held.place);
    END LOOP;
END $$"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiled:
    """A way to spoil a good run, the rule that notices and what it says."""

    rule: str
    sql: str
    says: str


SPOILED = (
    # Imports.
    Spoiled(
        rule="files_are_imported_once",
        sql="DELETE FROM import_run WHERE file_name = 'orders.csv'",
        says="lost: file 'orders.csv' of orders is 0 runs",
    ),
    Spoiled(
        rule="files_are_imported_once",
        sql="INSERT INTO import_run (id, target, file_name, digest, plan, state, is_checked)"
        " SELECT 'import-2', target, file_name, digest, plan, 'running', true FROM import_run"
        " WHERE file_name = 'users.csv'",
        says="duplicated: file 'users.csv' of users is 2 runs",
    ),
    Spoiled(
        rule="files_are_imported_once",
        sql="UPDATE import_run SET rows_done = 1 WHERE file_name = 'orders.csv'",
        says="of 2 rows it has 2, 1 are done and 2 have an end",
    ),
    Spoiled(
        rule="files_are_imported_once",
        sql="UPDATE import_run SET file_name = 'b.csv' WHERE file_name = 'batches.csv'",
        says="imports file 'b.csv', which nobody laid there",
    ),
    Spoiled(
        rule="chunks_are_of_runs",
        sql="UPDATE job SET id = 'import-forged:1' WHERE kind = 'imports.import_chunk'"
        " AND id IN (SELECT job_id FROM import_chunk LIMIT 1)",
        says="unasked: job 'import-forged:1' is of no run",
    ),
    Spoiled(
        rule="orders_of_files_are_placed",
        sql="INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)"
        " VALUES ('F-2', '3', 2, 'POT', 1, 'allocated')",
        says="duplicated: order 'F-2' of a file has lines [('POT', 2), ('POT', 1), ('POT', 1)]",
    ),
    Spoiled(
        rule="users_of_files_are_registered",
        sql="DELETE FROM outbox WHERE payload ->> 'user_id' = 'cat'",
        says="missing: user 'cat' of a file is there and was announced 0 times",
    ),
    # Jobs.
    Spoiled(
        rule="nothing_accepted_is_lost",
        sql="DELETE FROM job WHERE id = 'order-7'",
        says="lost: job 'order-7' (allocation.allocate_order) was accepted by submit and has no",
    ),
    Spoiled(
        rule="moves_are_legal",
        sql="DELETE FROM job WHERE id = 'order-7'",
        says="lost: the row of job 'order-7' (succeeded) was deleted",
    ),
    Spoiled(
        rule="moves_are_legal",
        sql="UPDATE job SET state = 'queued' WHERE id = 'order-7';"
        " UPDATE job SET state = 'succeeded' WHERE id = 'order-7'",
        says="illegal move: job 'order-7' went from succeeded to queued",
    ),
    Spoiled(
        rule="moves_are_legal",
        sql="UPDATE job SET result = '{\"order_id\": \"O-8\"}' WHERE id = 'order-7'",
        says="changed: job 'order-7' is succeeded and answers otherwise now",
    ),
    Spoiled(
        rule="moves_are_legal",
        sql="UPDATE job SET attempts = 2 WHERE id = 'order-7'",
        says="duplicated: job 'order-7' was finished again: attempts went from 1 to 2",
    ),
    Spoiled(
        rule="all_is_finished",
        sql="UPDATE job SET state = 'retry', finished_at = NULL WHERE id = 'order-sent'",
        says="left open: job 'order-sent' (allocation.allocate_order) is retry after 1 attempts",
    ),
    Spoiled(
        rule="all_is_finished",
        sql="UPDATE job SET state = 'dead', error = '{\"type\": \"WorkerLost\"}'"
        " WHERE id = 'order-sent'",
        says="dead: job 'order-sent' (allocation.allocate_order) is dead after 1 attempts: Worker",
    ),
    Spoiled(
        rule="nobody_else_made_jobs",
        sql="UPDATE job SET id = 'forged' WHERE id = 'order-sent'",
        says="unasked: job 'forged' (allocation.allocate_order, succeeded) was handed over by nob",
    ),
    Spoiled(
        rule="jobs_are_as_handed_over",
        sql="UPDATE job SET payload = jsonb_set(payload, '{priority}', '3') WHERE id = 'order-7'",
        says="changed: job 'order-7' holds",
    ),
    Spoiled(
        rule="jobs_are_as_handed_over",
        sql="UPDATE job SET kind = 'users.erase' WHERE id = 'order-7'",
        says="changed: job 'order-7' is of kind users.erase, not allocation.allocate_order",
    ),
    Spoiled(
        rule="answers_never_change",
        sql="UPDATE job SET result = '{\"order_id\": \"O-7\"}' WHERE id = 'order-7'",
        says="changed: job 'order-7' answered succeeded {'lines'",
    ),
    Spoiled(
        rule="answers_never_change",
        sql="DELETE FROM job WHERE id = 'order-refused'",
        says="changed: job 'order-refused' answered rejected OutOfStock and has no row now",
    ),
    Spoiled(
        rule="attempts_are_bounded",
        sql="UPDATE job SET attempts = 6 WHERE id = 'order-7'",
        says="illegal move: job 'order-7' (allocation.allocate_order) is succeeded after 6 attem",
    ),
    Spoiled(
        rule="attempts_are_bounded",
        sql="UPDATE job SET attempts = 0 WHERE id = 'order-7'",
        says="illegal move: job 'order-7' (allocation.allocate_order) is succeeded after 0 attem",
    ),
    Spoiled(
        rule="the_trail_ends_where_jobs_stand",
        sql=f"DELETE FROM {audit_trail.TABLE} WHERE job_id = 'order-7' AND after = 'succeeded'",
        says="illegal move: job 'order-7' is succeeded, the trail leaves it at queued",
    ),
    # Orders.
    Spoiled(
        rule="only_success_has_an_effect",
        sql="UPDATE stock_movement SET job_id = 'nobody' WHERE job_id = 'order-7'",
        says="by job 'nobody', which the ledger does not know",
    ),
    Spoiled(
        rule="only_success_has_an_effect",
        sql="UPDATE stock_movement SET job_id = 'order-refused' WHERE job_id = 'order-7'",
        says="by job 'order-refused', which is rejected",
    ),
    Spoiled(
        rule="only_success_has_an_effect",
        sql="UPDATE stock_movement SET job_id = 'erase-ben' WHERE job_id = 'order-7'",
        says="unasked: job 'erase-ben' (users.erase) moved stock of batch 'B-2' as order_allocat",
    ),
    Spoiled(
        rule="only_success_has_an_effect",
        sql="UPDATE allocation SET job_id = 'order-refused' WHERE order_id = 'O-1'",
        says="unasked: line '1' of order 'O-1' has stock by job 'order-refused', which is rejected",
    ),
    Spoiled(
        rule="only_success_has_an_effect",
        sql="UPDATE sales_order SET job_id = 'nobody' WHERE order_id = 'O-1'",
        says="unasked: order 'O-1' was placed by job 'nobody', which the ledger does not know",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="DELETE FROM sales_order WHERE order_id = 'O-1'",
        says="missing: job 'order-1' succeeded, its order 'O-1' is not there",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="DELETE FROM order_line WHERE order_id = 'O-1' AND line_id = '2'",
        says="missing: job 'order-1' placed lines {'1': 'TEA', '2': 'CUP'}, its order has",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="INSERT INTO stock_movement (job_id, cause, sku, batch_reference, counter, before,"
        " after, order_id, line_id) SELECT job_id, cause, sku, batch_reference, counter, before,"
        " after, order_id, line_id FROM stock_movement WHERE job_id = 'order-7'",
        says="duplicated: job 'order-7' answered {('1', 'B-2'): 1} and moved {('1', 'B-2'): 2}",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="INSERT INTO stock_movement (job_id, cause, sku, batch_reference, counter, before,"
        " after, order_id, line_id) SELECT 'order-1-again', cause, sku, batch_reference, counter,"
        " before, after, order_id, line_id FROM stock_movement WHERE job_id = 'order-1'",
        says="duplicated: order 'O-1' was placed by 2 jobs",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="DELETE FROM stock_movement WHERE job_id = 'order-7'",
        says="missing: job 'order-7' answered {('1', 'B-2'): 1} and moved {}",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="UPDATE stock_movement SET order_id = 'O-1' WHERE job_id = 'order-7'",
        says="unasked: job 'order-7' moved stock for order 'O-1', its own is 'O-7'",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="UPDATE sales_order SET job_id = 'order-7' WHERE order_id = 'O-1';"
        " UPDATE stock_movement SET job_id = 'order-5' WHERE job_id = 'order-1'",
        says="missing: order 'O-1' was placed by none of the jobs that succeeded with it",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="INSERT INTO outbox (name, aggregate, payload, job_id)"
        " SELECT name, aggregate, payload, job_id FROM outbox"
        " WHERE job_id = 'order-7' AND name = 'OrderAllocated'",
        says="duplicated: job 'order-7' answered 'allocated' with 2 events OrderAllocated",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="DELETE FROM outbox WHERE job_id = 'order-7' AND name = 'OrderAllocated'",
        says="missing: job 'order-7' answered 'allocated' with 0 events OrderAllocated",
    ),
    Spoiled(
        rule="orders_are_placed_once",
        sql="UPDATE outbox SET job_id = 'order-1-again' WHERE job_id = 'order-1'",
        says="duplicated: job 'order-1-again' found order 'O-1' placed already, and tells of it",
    ),
    Spoiled(
        rule="refusals_have_no_effect",
        sql="UPDATE outbox SET job_id = 'order-refused' WHERE job_id = 'order-7'",
        says="unasked: job 'order-refused' (allocation.allocate_order) is rejected and tells",
    ),
    # Batches and changes.
    Spoiled(
        rule="batches_are_created_once",
        sql="DELETE FROM batch WHERE reference = 'B-2'",
        says="missing: batch 'B-2' is not there",
    ),
    Spoiled(
        rule="batches_are_created_once",
        sql="INSERT INTO outbox (name, aggregate, payload, job_id)"
        " SELECT name, aggregate, payload, job_id FROM outbox WHERE job_id = 'batch-2'",
        says="duplicated: batch 'B-2' of 5 was bought as [5] and announced 2 times",
    ),
    Spoiled(
        rule="batches_are_created_once",
        sql="INSERT INTO batch (reference, sku, purchased, fingerprint)"
        " VALUES ('B-9', 'TEA', 0, '')",
        says="unasked: batch 'B-9' was created by no job",
    ),
    Spoiled(
        rule="changes_are_made",
        sql="UPDATE order_line SET quantity = 1 WHERE order_id = 'O-7'",
        says="missing: line '1' of order 'O-7' wants 1, jobs set it to [2]",
    ),
    Spoiled(
        rule="changes_are_made",
        sql="UPDATE order_line SET quantity = 3 WHERE order_id = 'O-1' AND line_id = '1'",
        says="missing: line '1' of order 'O-1' wants 3, jobs set it to [2]",
    ),
    Spoiled(
        rule="changes_are_made",
        sql="UPDATE batch SET purchased = 5 WHERE reference = 'B-2'",
        says="missing: batch 'B-2' holds 5, jobs set it to [4]",
    ),
    Spoiled(
        rule="withdrawals_are_made_once",
        sql="UPDATE order_line SET state = 'rejected' WHERE order_id = 'O-6' AND line_id = '2'",
        says="missing: job 'deallocate-6' took line '2' out of order 'O-6', it is rejected",
    ),
    Spoiled(
        rule="withdrawals_are_made_once",
        sql="UPDATE order_line SET state = 'rejected' WHERE order_id = 'O-5'",
        says="missing: order 'O-5' was cancelled, its lines are ['rejected', 'rejected']",
    ),
    Spoiled(
        rule="withdrawals_are_made_once",
        sql="INSERT INTO outbox (name, aggregate, payload, job_id)"
        " SELECT name, aggregate, payload, job_id FROM outbox WHERE name = 'OrderCancelled'",
        says="duplicated: order 'O-5' was cancelled and told so 2 times",
    ),
    # Users.
    Spoiled(
        rule="users_are_registered_once",
        sql="DELETE FROM user_account WHERE id = 'ann'",
        says="job 'register-ann' registered user 'ann', who is not there and was announced 1 time",
    ),
    Spoiled(
        rule="users_are_registered_once",
        sql="DELETE FROM outbox WHERE job_id = 'register-ann'",
        says="unasked: user 'ann' was registered by no job",
    ),
    Spoiled(
        rule="versions_are_steps",
        sql="UPDATE user_account SET version = 4 WHERE id = 'ann'",
        says="missing: user 'ann' is at version 4, events tell of [1, 2, 3]",
    ),
    Spoiled(
        rule="changes_are_made_once",
        sql="INSERT INTO outbox (name, aggregate, payload, job_id)"
        " SELECT name, aggregate, payload, job_id FROM outbox WHERE job_id = 'update-ann'",
        says="duplicated: job 'update-ann' (users.update) tells of ['UserUpdated', 'UserUpdated']",
    ),
    Spoiled(
        rule="changes_are_made_once",
        sql="DELETE FROM outbox WHERE job_id = 'update-ann'",
        says="missing: job 'update-ann' gave user 'ann' a new name and has changed nothing",
    ),
    Spoiled(
        rule="changes_are_made_once",
        sql="UPDATE outbox SET payload = jsonb_set(payload, '{version}', '9')"
        " WHERE job_id = 'update-ann'",
        says="its event tells of version 9",
    ),
    # Stock.
    Spoiled(
        rule="nobody_waits_for_what_is_free",
        sql="UPDATE order_line SET state = 'backordered', quantity = 1 WHERE order_id = 'O-2'",
        says="stock: line '1' of order 'O-2' waits for 1 of 'CUP', of which a batch has 1",
    ),
    Spoiled(
        rule="no_batch_is_over_allocated",
        sql="UPDATE batch SET allocated = 7 WHERE reference = 'B-2'",
        says="stock: batch 'B-2' has 7 allocated of 4 purchased",
    ),
    Spoiled(
        rule="counters_are_what_lines_hold",
        sql="UPDATE batch SET allocated = allocated - 1 WHERE reference = 'B-2'",
        says="stock: batch 'B-2' counts 2 allocated, its lines hold 3",
    ),
    Spoiled(
        rule="movements_are_chains",
        sql="UPDATE stock_movement SET before = 77 WHERE job_id = 'order-7'",
        says="(allocated, by job 'order-7') begins at 77, the one before it ended at",
    ),
    Spoiled(
        rule="movements_are_chains",
        sql="UPDATE batch SET purchased = 6 WHERE reference = 'B-2'",
        says="stock: batch 'B-2' has 6 purchased, its movements end at 4",
    ),
    Spoiled(
        rule="all_that_was_bought_is_there",
        sql="UPDATE batch SET purchased = 6 WHERE reference = 'B-2'",
        says="stock: 32 units were bought, ",
    ),
    Spoiled(
        rule="portions_are_what_moved",
        sql="UPDATE allocation SET quantity = 3 WHERE order_id = 'O-7'",
        says="stock: line '1' of order 'O-7' holds 3 of batch 'B-2', 2 were moved to it",
    ),
    Spoiled(
        rule="lines_hold_what_their_state_says",
        sql="UPDATE order_line SET state = 'cancelled' WHERE order_id = 'O-7'",
        says="stock: line '1' of order 'O-7' is cancelled and holds 2 of 2",
    ),
    # Events.
    Spoiled(
        rule="events_are_of_jobs_that_were_done",
        sql="UPDATE outbox SET job_id = 'nobody' WHERE job_id = 'order-7'",
        says="is of job 'nobody', which is unknown",
    ),
    Spoiled(
        rule="lines_hold_what_events_tell",
        sql="DELETE FROM outbox WHERE job_id = 'order-7' AND name = 'OrderAllocated'",
        says="event: line '1' of order 'O-7' holds 2 of batch 'B-2', its events tell of 1",
    ),
    Spoiled(
        rule="events_are_published",
        sql="UPDATE outbox SET published_at = NULL WHERE job_id = 'order-sent'",
        says="(OrderAllocated of order:O-4) was never published",
    ),
    Spoiled(
        rule="events_are_published",
        sql="UPDATE outbox SET event_id = gen_random_uuid() WHERE job_id = 'order-sent'",
        says="(OrderAllocated of order:O-4) counts as published and was never on the stream",
    ),
    Spoiled(
        rule="order_is_kept",
        sql="UPDATE outbox SET event_id = gen_random_uuid() WHERE job_id = 'order-sent'",
        says=", which nothing caused",
    ),
    Spoiled(
        rule="order_is_kept",
        sql="UPDATE outbox SET id = id + 10000"
        " WHERE job_id = 'register-ann' AND name = 'UserRegistered'",
        says="(UserUpdated of user:ann) came onto the stream after",
    ),
    Spoiled(
        rule="order_is_kept",
        sql="UPDATE outbox SET id = id + 10000"
        " WHERE job_id = 'order-7' AND name = 'OrderAllocated'",
        says="(LineAllocated of order:O-7) came onto the stream after event",
    ),
    Spoiled(
        rule="order_is_kept",
        sql="UPDATE outbox SET id = id + 10000 WHERE job_id = 'order-6'",
        says="(LineDeallocated of order:O-6) came onto the stream after event",
    ),
)
