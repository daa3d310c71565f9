-- The items nearest to the mean of what is wanted; with what is not wanted, as far again on the other side
with
parts (is_wanted, vector) as (
    select 1, embed_text(:space, nullif(:text, ''))
    union all
    select 1, unhex(nullif(:image, ''))
    union all
    select 1, vector_of(:space, value) from json_each(:like)
    union all
    select 0, vector_of(:space, value) from json_each(:unlike)
),
-- By cosine only directions count, so that each part counts alike.
scaled (is_wanted, vector) as (
    select p.is_wanted, iif(s.metric = 'cosine' and vector_norm(p.vector) > 0, vec_normalize(p.vector), p.vector)
    from parts p
    join spaces s on s.name = :space
    where p.vector is not null
),
means (wanted, unwanted) as (
    select centroid(vector) filter (where is_wanted), centroid(vector) filter (where not is_wanted)
    from scaled
),
query (vector) as (
    select iif(unwanted is null, wanted, vec_sub(vec_add(wanted, wanted), unwanted)) from means
)
select
    k.id, k.distance, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 240) as text,
    (select group_concat(l.value, ', ') from item_labels l where l.item_id = k.id) as labels
from query q
-- As many more as might be examples themselves.
join knn(
    :space, q.vector, cast(:k as integer) + json_array_length(:like) + json_array_length(:unlike),
    nullif(:within, '')
) k
join items i on i.id = k.id
where k.id not in (select value from json_each(:like) union all select value from json_each(:unlike))
order by k.rank
limit :k
