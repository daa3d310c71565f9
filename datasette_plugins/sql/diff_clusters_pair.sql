-- The items that are in one cluster of a run and in one of another; NULL or '' is noise
select
    i.id, a.label as cluster_a, b.label as cluster_b,
    i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from memberships x
join memberships y on y.run_id = :run_b and y.level = :level_b and y.item_id = x.item_id
left join clusters a on a.id = x.cluster_id
left join clusters b on b.id = y.cluster_id
join items i on i.id = x.item_id
where x.run_id = :run_a and x.level = :level_a
  and a.label is nullif(:cluster_a, '') and b.label is nullif(:cluster_b, '')
order by i.id
limit :limit offset :offset
