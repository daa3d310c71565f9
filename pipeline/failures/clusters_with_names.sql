-- The clusters of :run with the names that :label_run gave them, and their items.
select
    c.id, c.label, c.size, c.exemplar_item_id, l.name, l.description,
    (
        select json_group_array(item_id)
        from (
            select item_id from memberships
            where run_id = c.run_id and level = c.level and cluster_id = c.id and not is_assigned
            order by item_id
        )
    ) as items_json
from clusters c
left join cluster_labels l on l.cluster_id = c.id and l.run_id = :label_run
where c.run_id = :run
order by c.label
