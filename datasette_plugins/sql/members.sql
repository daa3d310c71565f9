-- The members of a cluster, or a level's noise where :cluster is NULL
with page as (
    select
        m.item_id, m.probability, m.outlier_score, m.is_assigned,
        case :sort
            when 'surest' then -m.probability
            when 'least' then m.probability
            when 'outlying' then -m.outlier_score
            when 'inlying' then m.outlier_score
            else m.item_id
        end as place
    from memberships m
    where m.run_id = :run and m.level = :level
      and m.cluster_id is (select c.id from clusters c
                           where c.run_id = :run and c.level = :level and c.label = :cluster)
    order by place is null, place, m.item_id
    limit :limit offset :offset
)
select
    i.id, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 240) as text,
    page.probability, page.outlier_score, page.is_assigned
from page
join items i on i.id = page.item_id
order by page.place is null, page.place, page.item_id
