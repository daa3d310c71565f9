-- How many images each of two detector runs judged, and both; and of these by another ground truth
select
    (select count(*) from image_metrics where run_id = :run_a),
    (select count(*) from image_metrics where run_id = :run_b),
    count(*),
    ifnull(sum(a.truth_sha256 is not b.truth_sha256), 0)
from image_metrics a
join image_metrics b on b.run_id = :run_b and b.item_id = a.item_id
where a.run_id = :run_a
