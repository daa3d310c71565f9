-- True numbers and what the neighbours said, of items drawn as if by lot, the same each time
select p.item_id, p.y_true as truth, p.y_pred as estimate, count(*) over () as total
from cv_predictions p indexed by sqlite_autoindex_cv_predictions_1
where p.run_id = :run
  and p.space_id = (select id from spaces where name = :space)
  and p.k = :k
  and p.weighting = :weighting
  and typeof(p.y_true) in ('integer', 'real')
  and typeof(p.y_pred) in ('integer', 'real')
-- Multiplying scatters the ids over 32 bits.
order by (p.item_id & 4294967295) * 1640531527 & 4294967295, p.item_id
limit :limit
