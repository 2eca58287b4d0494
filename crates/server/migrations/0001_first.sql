-- Columns are text and bigint only, so that one SQL text serves SQLite and PostgreSQL: ids as text, times as
-- milliseconds since the Unix epoch, states as words with a check, documents as JSON. The triggers that guard states
-- and events differ by engine and are made in db.rs.

-- The two lives, as the core has them; the triggers refuse every other step.
create table request_steps (from_state text not null, to_state text not null, primary key (from_state, to_state));
insert into request_steps (from_state, to_state) values
    ('pending', 'approved'), ('pending', 'declined'), ('pending', 'cancelled'), ('pending', 'lapsed');

create table grant_steps (from_state text not null, to_state text not null, primary key (from_state, to_state));
insert into grant_steps (from_state, to_state) values
    ('scheduled', 'active'),
    ('scheduled', 'revoking'), ('scheduled', 'ended'), ('scheduled', 'expired'), ('scheduled', 'failed'),
    ('active', 'revoking'), ('active', 'ended'), ('active', 'expired'), ('active', 'failed'),
    ('revoking', 'revoked');

create table accounts (
    id text primary key,
    name text not null,
    name_key text not null unique,
    role text not null check (role in ('owner', 'administrator', 'approver', 'auditor')),
    os_users text not null,
    password_hash text not null,
    created bigint not null
);

create table setup (
    id text primary key check (id = 'setup'),
    secret_hash text not null,
    used_at bigint
);

create table sessions (
    secret_hash text primary key,
    account_id text not null references accounts (id),
    created bigint not null,
    seen bigint not null
);
create index sessions_by_account on sessions (account_id);

create table sign_in_failures (
    key text primary key,
    failures bigint not null,
    since bigint not null
);

create table api_tokens (
    id text primary key,
    name text not null,
    role text not null check (role in ('owner', 'administrator', 'approver', 'auditor')),
    secret_hash text not null unique,
    created bigint not null,
    created_by text references accounts (id),
    revoked_at bigint
);

create table custom_groups (
    id text primary key,
    name text not null,
    name_key text not null unique,
    kind text not null check (kind in ('computers', 'users')),
    users text not null,
    version bigint not null check (version >= 1)
);

create table enrollment_tokens (
    id text primary key,
    secret_hash text not null unique,
    uses bigint not null check (uses >= 1),
    used bigint not null check (used >= 0 and used <= uses),
    expires bigint not null,
    group_id text references custom_groups (id),
    created bigint not null
);

create table computers (
    id text primary key,
    host_name text not null,
    operating_system text not null,
    state text not null check (state in ('enrolled', 'revoked')),
    event_key text not null,
    certificate_fingerprint text not null unique,
    enrolled bigint not null,
    last_seen bigint,
    -- Counts the changes of this computer's own sheet; with the policy epoch it makes the sheet's version.
    counter bigint not null check (counter >= 1),
    touched bigint not null,
    held_sheet bigint,
    held_bundle text,
    refusal_recorded bigint
);
create index computers_by_touched on computers (touched);
create index computers_by_held_bundle on computers (held_bundle);

create table group_computers (
    group_id text not null references custom_groups (id),
    computer_id text not null references computers (id),
    primary key (group_id, computer_id)
);
create index group_computers_by_computer on group_computers (computer_id);

create table policies (
    id text primary key,
    kind text not null check (kind in ('privileged_application_list', 'allowlist', 'blocklist')),
    name text not null,
    enabled bigint not null check (enabled in (0, 1)),
    version bigint not null check (version >= 1)
);

create table policy_versions (
    policy_id text not null references policies (id),
    version bigint not null,
    document text not null,
    saved bigint not null,
    primary key (policy_id, version)
);

create table deployments (
    policy_id text primary key references policies (id),
    version bigint not null,
    deployed bigint not null
);

create table deployment_groups (
    policy_id text not null references deployments (policy_id),
    group_id text not null references custom_groups (id),
    primary key (policy_id, group_id)
);

-- One row. Goes up whenever any bundle may have changed, so that deploying writes no row per computer.
create table policy_epoch (id text primary key check (id = 'policy'), value bigint not null);
insert into policy_epoch (id, value) values ('policy', 0);

-- Signed bundles by the digest of what was signed, and which versions stand in each.
create table bundles (
    digest text primary key,
    signed text not null,
    made bigint not null
);

create table bundle_policies (
    digest text not null references bundles (digest),
    policy_id text not null references policies (id),
    version bigint not null,
    primary key (digest, policy_id)
);
create index bundle_policies_by_policy on bundle_policies (policy_id, version);

create table requests (
    id text primary key,
    computer_id text not null references computers (id),
    user_name text not null,
    sha256 text not null,
    policy_id text not null,
    state text not null check (state in ('pending', 'approved', 'declined', 'cancelled', 'lapsed')),
    version bigint not null check (version >= 1),
    since bigint not null,
    deadline bigint not null,
    asked text not null,
    decision text,
    lapse_reason text check (lapse_reason in ('unanswered', 'policy_withdrawn')),
    grant_id text,
    check ((state in ('approved', 'declined')) = (decision is not null)),
    check ((state = 'lapsed') = (lapse_reason is not null)),
    check ((state = 'approved') = (grant_id is not null))
);
create index requests_by_state on requests (state, since);
create index requests_by_deadline on requests (state, deadline);
create index requests_by_computer on requests (computer_id, since);

create table grants (
    id text primary key,
    computer_id text not null references computers (id),
    request_id text unique references requests (id),
    user_name text not null,
    policy_id text not null,
    state text not null check (state in ('scheduled', 'active', 'expired', 'ended', 'revoking', 'revoked', 'failed')),
    version bigint not null check (version >= 1),
    since bigint not null,
    ends bigint,
    deadline bigint not null,
    delivered_at bigint,
    document text not null
);
create index grants_by_state on grants (state, since);
create index grants_by_deadline on grants (state, deadline);
create index grants_by_computer on grants (computer_id, state);

create table launches (
    id text primary key,
    computer_id text not null references computers (id),
    grant_id text not null,
    user_name text not null,
    path text not null,
    sha256 text not null,
    argv text not null,
    layers text not null,
    started bigint not null,
    ends bigint not null,
    ended bigint,
    reason text,
    exit_status text,
    check ((ended is null) = (reason is null))
);
create index launches_by_grant on launches (grant_id, started);

-- A chain is the server's own (id 'server') or a computer's (its id).
create table chains (
    id text primary key,
    number bigint not null check (number >= 0),
    digest text not null
);

create table events (
    chain text not null references chains (id),
    number bigint not null check (number >= 1),
    at bigint not null,
    stored bigint not null,
    kind text not null,
    account text,
    computer_id text,
    user_name text,
    application text,
    policy_id text,
    request_id text,
    grant_id text,
    launch_id text,
    -- The very bytes of the record; a computer's come with its signature.
    body text not null,
    primary key (chain, number)
);
create index events_by_time on events (at, chain, number);
create index events_by_request on events (request_id);
create index events_by_grant on events (grant_id);
create index events_by_policy on events (policy_id, at);
create index events_by_computer on events (computer_id, at);
create index events_by_user on events (user_name, at);
create index events_by_kind on events (kind, at);
