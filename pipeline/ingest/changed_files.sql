-- New items at places where the collection has an older item: files that changed since.
select coalesce(sum(n_new), 0) from (
    select sum(run_id is :run_id) as n_new, sum(run_id is not :run_id) as n_old
    from items where collection = :collection group by uri
) where n_new > 0 and n_old > 0
