-- What became of the clusters of a run in another one, with the newest name of each
select
    d.change,
    d.cluster_a,
    (select n.name from cluster_labels n where n.cluster_id = a.id order by n.id desc limit 1) as name_a,
    d.cluster_b,
    (select n.name from cluster_labels n where n.cluster_id = b.id order by n.id desc limit 1) as name_b,
    d.size_a,
    d.size_b,
    d.compared_a,
    d.compared_b,
    d.overlap,
    d.jaccard
from cluster_diff(
    cast(:run_a as integer), cast(:run_b as integer),
    cast(:level_a as integer), cast(:level_b as integer)
) d
left join clusters a on a.run_id = :run_a and a.level = :level_a and a.label = d.cluster_a
left join clusters b on b.run_id = :run_b and b.level = :level_b and b.label = d.cluster_b
