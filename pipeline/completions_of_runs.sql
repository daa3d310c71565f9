-- The runs to choose from, the newest first, each with what it read and when.
-- :kinds: those kinds of runs, finished, as a JSON array; NULL for all of any status.
select
    r.id,
    concat_ws(
        ' ',
        r.kind,
        case when r.status <> 'finished' then '(' || r.status || ')' end,
        'of ' || nullif(
            (select group_concat(i.name, ' and ') from run_inputs i where i.run_id = r.id), ''
        ),
        'at ' || replace(substr(r.started_at, 1, 16), 'T', ' ')
    )
from runs r
where :kinds is null
   or (r.status = 'finished' and r.kind in (select value from json_each(:kinds)))
order by r.id desc
