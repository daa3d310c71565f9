-- Each space with how many vectors it has, and how many of them :downsample and :within leave.
select
    g.space,
    g.total,
    case
        when :within is null then g.sampled
        else (
            select count(*)
            from json_each(:within) w
            join vectors v on v.space_id = s.id and v.item_id = w.value
            join items i on i.id = v.item_id
            where i.sequence_number % :downsample = 0
        )
    end as sampled,
    s.metric
from space_groups(:downsample) g
join spaces s on s.name = g.space
