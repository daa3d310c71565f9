-- The outlier score of each item in a level of a clustering; NULL where the run gave none
select m.item_id, m.outlier_score as value
from memberships m
where m.run_id = :by_run and m.level = :level
order by m.item_id
