select c.level, c.label, l.name, l.description, l.category, l.strength, l.keywords_json,
       l.shown_item_ids_json, l.held_out_precision, l.held_out_recall, l.held_out_json
from cluster_labels l join clusters c on c.id = l.cluster_id
where l.run_id = ?
