-- The names of a cluster, the newest first: it is the one that is shown
select
    n.id, n.name, n.description, n.category, n.strength, n.method, n.model, n.author, n.run_id,
    n.held_out_precision as precision, n.held_out_recall as recall, n.created_at
from cluster_labels n
where n.cluster_id = :cluster_id
order by n.id desc
limit 100
