-- ranks of stored neighbours
-- of neighbors
-- Ranks count from 1, distances do not fall, and no item is its own neighbour.
select 'item ' || item_id || ' of run ' || run_id || case
    when neighbor_id = item_id then ' is its own neighbour'
    when rank <> place then ' lacks rank ' || place
    else ' has a nearer neighbour after a farther one' end, run_id
from (
    select run_id, item_id, neighbor_id, rank, distance,
        row_number() over each_item as place,
        lag(distance) over each_item as before
    from neighbors
    window each_item as (partition by run_id, item_id order by rank)
)
where neighbor_id = item_id or rank <> place or distance < before
