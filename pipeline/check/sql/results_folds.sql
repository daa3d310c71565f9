-- folds of predictions
-- of cv_predictions
-- A prediction was made in the fold that its item is in.
select 'item ' || p.item_id || ' of run ' || p.run_id || ' was predicted in fold ' || p.fold
    || ifnull(', and is in fold ' || f.fold, ', and is in none'), p.run_id
from cv_predictions p
left join folds f on f.run_id = p.run_id and f.item_id = p.item_id
where f.fold is not p.fold
