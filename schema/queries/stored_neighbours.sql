/* The stored neighbours of an item */
select
    n.rank,
    n.neighbor_id as item_id,
    n.distance,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = n.neighbor_id)
        as labels,
    i.uri,
    substr(i.content, 1, 200) as text
from neighbors n
join runs r on r.id = n.run_id and r.status = 'finished' -- one that stopped has part of a graph
join items i on i.id = n.neighbor_id
where n.run_id = :run and n.item_id = :item
order by n.rank
