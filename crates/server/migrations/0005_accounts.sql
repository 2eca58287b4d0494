-- The report's filter by user looks for accounts as well. Most events are of none.
create index events_by_account on events (account, at) where account is not null;
