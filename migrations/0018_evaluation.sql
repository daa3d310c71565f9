-- The items that voted for an evaluated one are stored once for all k and weightings.

alter table cv_predictions drop column neighbors_json;

create table cv_neighbors (
    run_id integer not null references runs (id) on delete cascade,
    space_id integer not null references spaces (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    neighbor_ids blob not null check (length(neighbor_ids) % 8 = 0),
    distances blob not null check (length(distances) = length(neighbor_ids)),
    primary key (run_id, space_id, item_id)
) strict;

create index cv_neighbors_item on cv_neighbors (item_id);
create index cv_neighbors_space on cv_neighbors (space_id);

create view cv_confusion as
select p.run_id, p.space_id, p.k, p.weighting, p.y_true, p.y_pred, count(*) as n
from cv_predictions p
join runs r on r.id = p.run_id and json_extract(r.parameters_json, '$.label') is not null
group by p.run_id, p.space_id, p.k, p.weighting, p.y_true, p.y_pred;
