-- A condition on items i: every item of the file, or those that the chosen runs hold; of these, all or
-- those of :within
(:within is null or i.id in (select value from json_each(:within)))
and (
    not :only_theirs
    or exists (
        select 1 from memberships m
        where m.item_id = i.id and m.run_id in (select value from json_each(:runs))
    )
    or exists (
        select 1 from projection_points p
        where p.item_id = i.id and p.run_id in (select value from json_each(:runs))
    )
)
