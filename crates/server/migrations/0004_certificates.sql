-- A computer's certificates: while one is renewed there are two, so that an answer that goes lost does no harm.
create table certificates (
    fingerprint text primary key,
    computer_id text not null references computers (id),
    made bigint not null,
    ends bigint not null
);
create index certificates_by_computer on certificates (computer_id, made);
-- Until now each had one, for 398 days.
insert into certificates (fingerprint, computer_id, made, ends)
    select certificate_fingerprint, id, enrolled, enrolled + 34387200000 from computers;
