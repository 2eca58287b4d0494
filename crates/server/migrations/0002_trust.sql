-- What the server signed about its chains. `server_number` and `server_digest` repeat what the document says of the
-- server's own chain: sheets carry it, and computers write it down.
create table checkpoints (
    number bigint primary key check (number >= 1),
    at bigint not null,
    server_number bigint not null,
    server_digest text not null,
    signed text not null
);

-- How far a chain was at the last checkpoint that names it.
alter table chains add column checkpointed bigint not null default 0;
-- 1 after the server was restored from a backup: what this computer sends next may leave a gap, once.
alter table chains add column gap_allowed bigint not null default 0 check (gap_allowed in (0, 1));

alter table accounts add column disabled_at bigint;
alter table enrollment_tokens add column revoked_at bigint;

create index requests_by_computer_and_state on requests (computer_id, state);

-- One row, locked by whoever makes the next checkpoint.
create table checkpoint_turn (id text primary key check (id = 'turn'), taken bigint not null);
insert into checkpoint_turn (id, taken) values ('turn', 0);
