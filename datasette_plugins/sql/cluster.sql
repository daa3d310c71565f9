-- One cluster of a run, with the clusters of its level that are next larger and next smaller
with beside as (
    select
        id,
        lag(label) over by_size as larger,
        lead(label) over by_size as smaller
    from clusters
    where run_id = :run and level = :level
    window by_size as (order by size desc, label)
)
select
    c.id as cluster_id,
    c.label,
    c.size,
    c.exemplar_item_id,
    c.birth_lambda,
    beside.larger,
    beside.smaller,
    (select n.name from cluster_labels n where n.cluster_id = c.id order by n.id desc limit 1) as name,
    (select n.description from cluster_labels n
     where n.cluster_id = c.id and n.description is not null order by n.id desc limit 1) as description,
    (select n.keywords_json from cluster_labels n
     where n.cluster_id = c.id and n.keywords_json is not null order by n.id desc limit 1) as keywords_json
from clusters c
join beside using (id)
where c.run_id = :run and c.level = :level and c.label = :cluster
