-- Most events are of no request and of no grant: those need no place in the index.
drop index events_by_request;
drop index events_by_grant;
drop index events_by_policy;
create index events_by_request on events (request_id) where request_id is not null;
create index events_by_grant on events (grant_id) where grant_id is not null;
create index events_by_policy on events (policy_id, at) where policy_id is not null;
