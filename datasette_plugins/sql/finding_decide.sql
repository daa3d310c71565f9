-- What a person says of a finding of a run: keep, dismiss, or nothing yet
update findings
set decision = nullif(:decision, ''),
    decided_at = iif(:decision = '', null, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
where id = :finding and run_id = :run
returning kind
