-- The items nearest to an item by a detector's loss. direction image: whose image fits the item's predictions
-- best; target: whose predictions the item's image fits best
select k.rank, k.id, k.distance, i.kind, i.sha256, i.width < 100 as is_tiny,
       (select group_concat(l.value, ', ') from item_labels l where l.item_id = k.id) as labels
from knn_loss(
    cast(:run as integer), :component, cast(:item as integer), cast(:k as integer), :direction
) k
join items i on i.id = k.id
order by k.rank
