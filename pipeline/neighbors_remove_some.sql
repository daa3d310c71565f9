-- The rows of a run's first items, about :n_rows of them.
delete from neighbors
where run_id = :run and item_id <= (
    select max(item_id)
    from (select item_id from neighbors where run_id = :run order by item_id, rank limit :n_rows)
)
