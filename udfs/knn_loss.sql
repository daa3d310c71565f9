-- The k items at the smallest loss distance from :item, by :direction. UNION ALL, so that SQLite reads
-- only the branch that is asked for. INDEXED BY, because SQLite would read all of the run instead.
select id, distance
from (
    select image_item_id as id, distance
    from loss_distances
    where :direction = 'image' and run_id = :run and target_item_id = :item
        and component = :component and distance is not null
    union all
    select target_item_id, distance
    from loss_distances indexed by loss_distances_image
    where :direction = 'target' and run_id = :run and image_item_id = :item
        and component = :component and distance is not null
    union all
    -- Both directions, where both are defined.
    select
        there.image_item_id,
        case :direction
            when 'mean' then (there.distance + back.distance) / 2
            when 'max' then max(there.distance, back.distance)
            when 'min' then min(there.distance, back.distance)
        end
    from loss_distances there
    join loss_distances back
        on back.run_id = :run and back.target_item_id = there.image_item_id
        and back.image_item_id = :item and back.component = :component
    where :direction in ('mean', 'max', 'min') and there.run_id = :run
        and there.target_item_id = :item and there.component = :component
        and there.distance is not null and back.distance is not null
)
where id <> :item
order by distance, id
limit :k;
