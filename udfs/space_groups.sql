-- How many items each space has, and how many of them a downsample by :downsample takes.
select
    s.name,
    m.name,
    count(v.id),
    count(v.id) filter (where i.sequence_number % :downsample = 0),
    case
        when count(v.id) filter (where i.sequence_number % :downsample = 0) < 2 then 'too few'
        else 'ok'
    end
from spaces s
left join models m on m.id = s.model_id
left join vectors v on v.space_id = s.id
left join items i on i.id = v.item_id
group by s.id
order by s.name;
