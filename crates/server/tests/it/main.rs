//! The server, room by room, as its callers see it: JSON, the agents' channel, the database, TLS.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long something took")]

mod accounts;
mod audit;
mod authorization;
mod backup;
mod channel;
mod computers;
mod database;
mod doctor;
mod endpoint;
mod grants;
mod groups;
mod openapi;
mod policies;
mod replicas;
mod requests;
mod site;
mod tls;
mod trials;
mod uploads;

/// Each test on SQLite, and on PostgreSQL where there is one.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::site::Site::on_sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            #[ignore = "needs PostgreSQL; cargo xtask test runs it"]
            async fn $name() {
                super::$name(crate::site::Site::on_postgres().await).await;
            })+
        }
    };
}
pub(crate) use on_both_engines;
