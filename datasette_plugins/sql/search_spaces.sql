-- The spaces that can be searched, and with what: those that take texts first, then those of images
select
    s.name as space,
    s.kind,
    s.metric,
    s.dimensions,
    ifnull(made_by.model like 'clip:%' or made_by.model like 'text:%' or made_by.model = 'tfidf', 0)
        as takes_texts,
    ifnull(made_by.model like 'clip:%' or made_by.model like 'dino:%' or made_by.model like 'timm:%'
           or made_by.model = 'pixels', 0) as takes_images
from spaces s
left join (select id, json_extract(parameters_json, '$.model') as model from models) made_by
    on made_by.id = s.model_id
where exists (select 1 from vectors v where v.space_id = s.id)
order by takes_texts and takes_images desc, takes_texts desc, takes_images desc,
    case s.kind when 'embedding' then 0 when 'feature' then 1 when 'metric' then 2 else 3 end, s.name
