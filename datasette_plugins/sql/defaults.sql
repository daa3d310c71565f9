-- What the named questions are asked about until somebody chooses: the newest run, the largest space
with
clustering as (
    select max(run_id) as run from clusters
),
largest as (
    select space_id from vectors group by space_id order by count(*) desc, space_id limit 1
)
select
    (select s.name from spaces s join largest on s.id = largest.space_id) as space,
    (select min(v.item_id) from vectors v join largest using (space_id)) as item,
    10 as k,
    clustering.run as run,
    ifnull((select min(level) from clusters c where c.run_id = clustering.run), 1) as level,
    (select min(label) from clusters c where c.run_id = clustering.run and c.level = 1) as cluster,
    (select name from item_labels group by name order by count(*) desc, name limit 1) as label,
    0.1 as threshold,
    (select max(id) from runs where kind = 'detect') as detector,
    (select id from runs where kind = 'detect' order by id desc limit 1 offset 1) as other_detector,
    (select max(id) from runs where kind = 'evaluate') as evaluation,
    'uniform' as weighting,
    50 as "limit"
from clustering
