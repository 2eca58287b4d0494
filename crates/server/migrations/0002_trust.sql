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

-- The certificate that was issued in place of the present one; the first use makes it the present one.
alter table computers add column next_fingerprint text;
create unique index computers_by_next_fingerprint on computers (next_fingerprint);

-- One row, locked by whoever makes the next checkpoint.
create table checkpoint_turn (id text primary key check (id = 'turn'), taken bigint not null);
insert into checkpoint_turn (id, taken) values ('turn', 0);
