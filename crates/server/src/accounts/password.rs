//! Passwords: Argon2id, a few at a time, off the threads that serve.

use std::sync::Arc;
use std::sync::LazyLock;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::app::{App, chance};
use crate::error::Error;

/// The shortest password, in characters.
pub const SHORTEST: usize = 12;
/// The longest, in bytes; hashing must not be fed without end.
const LONGEST: usize = 1024;

/// 19 MiB, two passes, one lane: the least that is recommended.
fn hasher() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("these parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// What is compared with where there is no such account, so that the answer takes as long.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let hash = hasher().hash_password_with_salt(b"nobody has this password", &chance::<16>());
    hash.map(|hash| hash.to_string()).unwrap_or_default()
});

/// What is stored of a password. Refuses one that is too short.
pub async fn hash(app: &App, password: &str) -> Result<String, Error> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(Error::field(
            "password",
            format!("expected a password of at least {SHORTEST} characters"),
        ));
    }
    let password = password.to_owned();
    off_thread(app, move || {
        let hash = hasher().hash_password_with_salt(password.as_bytes(), &chance::<16>());
        hash.map(|hash| hash.to_string()).map_err(|error| Error::internal("hashing a password", error))
    })
    .await?
}

/// Whether the password is the one; without a hash it never is, and that takes as long.
pub async fn verify(app: &App, password: &str, hash: Option<String>) -> Result<bool, Error> {
    let password = password.get(..LONGEST).unwrap_or(password).to_owned();
    off_thread(app, move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let parsed =
            PasswordHash::new(&hash).map_err(|error| Error::internal("reading a password's hash", error))?;
        Ok(hasher().verify_password(password.as_bytes(), &parsed).is_ok() && known)
    })
    .await?
}

async fn off_thread<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let Ok(_place) = app.to_be_hashed.try_acquire() else {
        return Err(Error::TooMany("too many people sign in at once; try again in a moment".into()));
    };
    let turn = Arc::clone(&app.hashing).acquire_owned().await;
    let turn = turn.map_err(|error| Error::internal("waiting to hash a password", error))?;
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(turn);
        result
    });
    done.await.map_err(|error| Error::internal("hashing a password", error))
}
