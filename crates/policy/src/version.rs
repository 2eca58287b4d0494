//! Which of two versions is the later one, as the package systems themselves decide it. Linear in the versions' length.

use std::cmp::Ordering;

use crate::application::PackageSystem;

/// Whether a package of this version is as late as the minimum, or later. `false` where either of them is no version of that
/// package system: what cannot be compared is not late enough.
pub fn at_least(system: PackageSystem, version: &str, minimum: &str) -> bool {
    match (Version::read(system, version), Version::read(system, minimum)) {
        (Some(version), Some(minimum)) => version.compare(&minimum, system) != Ordering::Less,
        _ => false,
    }
}

/// Whether the text could be a version of that package system.
pub fn is_version(system: PackageSystem, text: &str) -> bool {
    Version::read(system, text).is_some()
}

/// `[epoch:]version[-release]`, in both package systems of Linux; numbers with dots between them on Windows.
struct Version<'a> {
    epoch: u64,
    version: &'a [u8],
    release: Option<&'a [u8]>,
}

impl<'a> Version<'a> {
    fn read(system: PackageSystem, text: &'a str) -> Option<Self> {
        if system == PackageSystem::Windows {
            let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let fits = text.split('.').all(is_number);
            return fits.then_some(Self { epoch: 0, version: text.as_bytes(), release: None });
        }
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => {
                (epoch.bytes().all(|byte| byte.is_ascii_digit()).then(|| epoch.parse().ok())??, rest)
            }
            None => (0, text),
        };
        let (version, release) = match rest.rsplit_once('-') {
            Some((version, release)) => (version, Some(release.as_bytes())),
            None => (rest, None),
        };
        let well_formed = match system {
            PackageSystem::Dpkg => |byte: u8| byte.is_ascii_alphanumeric() || b".+-~:".contains(&byte),
            PackageSystem::Rpm | PackageSystem::Windows => |byte: u8| byte.is_ascii_graphic() && byte != b'-',
        };
        let fits = !version.is_empty()
            && release != Some(b"")
            && version.bytes().chain(release.unwrap_or_default().iter().copied()).all(well_formed);
        fits.then_some(Self { epoch, version: version.as_bytes(), release })
    }

    fn compare(&self, other: &Self, system: PackageSystem) -> Ordering {
        let part = match system {
            PackageSystem::Dpkg => of_dpkg,
            PackageSystem::Rpm => of_rpm,
            PackageSystem::Windows => of_windows,
        };
        let releases = match (system, self.release, other.release) {
            // rpm(8) takes a version that names no release for any release of it; to dpkg it is release 0.
            (PackageSystem::Rpm, None, _) | (PackageSystem::Rpm, _, None) => Ordering::Equal,
            (_, one, two) => part(one.unwrap_or_default(), two.unwrap_or_default()),
        };
        self.epoch.cmp(&other.epoch).then_with(|| part(self.version, other.version)).then(releases)
    }
}

/// deb-version(7), "Sorting algorithm": runs of other characters and runs of digits by turns.
fn of_dpkg(mut one: &[u8], mut two: &[u8]) -> Ordering {
    while !one.is_empty() || !two.is_empty() {
        let texts =
            (run(&mut one, |byte| !byte.is_ascii_digit()), run(&mut two, |byte| !byte.is_ascii_digit()));
        let numbers =
            (run(&mut one, |byte| byte.is_ascii_digit()), run(&mut two, |byte| byte.is_ascii_digit()));
        let order = of_dpkg_texts(texts.0, texts.1).then_with(|| of_numbers(numbers.0, numbers.1));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// `~` before the end, letters behind it, everything else behind those.
fn of_dpkg_texts(one: &[u8], two: &[u8]) -> Ordering {
    let weight = |at: usize, text: &[u8]| match text.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    (0..one.len().max(two.len()))
        .map(|at| weight(at, one).cmp(&weight(at, two)))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// rpm's `rpmvercmp` (`rpmio/rpmvercmp.c`): runs of digits or of letters; what stands between them only separates, but `~`
/// sorts before the end and `^` just behind it.
fn of_rpm(mut one: &[u8], mut two: &[u8]) -> Ordering {
    let separates = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'~' && byte != b'^';
    loop {
        run(&mut one, separates);
        run(&mut two, separates);
        let order = match (one.first(), two.first()) {
            (Some(b'~'), Some(b'~')) | (Some(b'^'), Some(b'^')) => {
                (one, two) = (one.get(1..).unwrap_or_default(), two.get(1..).unwrap_or_default());
                continue;
            }
            (Some(b'~'), _) => Ordering::Less,
            (_, Some(b'~')) => Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(b'^'), _) => Ordering::Less,
            (_, Some(b'^')) => Ordering::Greater,
            (Some(first), Some(second)) => match (first.is_ascii_digit(), second.is_ascii_digit()) {
                (true, true) => {
                    let digits = |byte: u8| byte.is_ascii_digit();
                    of_numbers(run(&mut one, digits), run(&mut two, digits))
                }
                (false, false) => {
                    let letters = |byte: u8| byte.is_ascii_alphabetic();
                    run(&mut one, letters).cmp(run(&mut two, letters))
                }
                (digits, _) if digits => Ordering::Greater,
                _ => Ordering::Less,
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A version resource holds four numbers (`VS_FIXEDFILEINFO`); whoever writes fewer means zeros behind them.
fn of_windows(one: &[u8], two: &[u8]) -> Ordering {
    let (mut ones, mut twos) = (one.split(|byte| *byte == b'.'), two.split(|byte| *byte == b'.'));
    loop {
        let order = match (ones.next(), twos.next()) {
            (None, None) => return Ordering::Equal,
            (one, two) => of_numbers(one.unwrap_or_default(), two.unwrap_or_default()),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// By value, however long they are.
fn of_numbers(mut one: &[u8], mut two: &[u8]) -> Ordering {
    run(&mut one, |byte| byte == b'0');
    run(&mut two, |byte| byte == b'0');
    one.len().cmp(&two.len()).then_with(|| one.cmp(two))
}

/// Takes what it can from the front.
fn run<'a>(text: &mut &'a [u8], takes: impl Fn(u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !takes(*byte)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn in_order(system: PackageSystem, versions: &[&str]) {
        for (at, earlier) in versions.iter().enumerate() {
            for (behind, later) in versions.iter().enumerate() {
                let expected = at >= behind;
                assert_eq!(at_least(system, earlier, later), expected, "{earlier} at least {later}");
            }
        }
    }

    #[test]
    fn dpkg_orders_versions() {
        in_order(
            PackageSystem::Dpkg,
            &[
                "0~",
                "0",
                "0+b",
                "0.1",
                "1.0~rc1-1",
                "1.0~rc1-2",
                "1.0-0",
                "1.0-1~bpo12+1",
                "1.0-1",
                "1.0-1+b1",
                "1.0-1.1",
                "1.0a-1",
                "1.0+dfsg-1",
                "1.0.1-1",
                "1.2-1",
                "1.10-1",
                "2.0-1",
                "1:0.1-1",
                "2:0~-1",
            ],
        );
        for (one, two) in [("1.0", "1.0-0"), ("1.00", "1.0"), ("0:1", "1"), ("1.0-01", "1.0-1")] {
            assert!(
                at_least(PackageSystem::Dpkg, one, two) && at_least(PackageSystem::Dpkg, two, one),
                "{one} {two}"
            );
        }
    }

    #[test]
    fn rpm_orders_versions() {
        in_order(
            PackageSystem::Rpm,
            &[
                "1.0~rc1-1",
                "1.0-1",
                "1.0-1.fc40",
                "1.0-2",
                "1.0^git1-1",
                "1.0.a-1",
                "1.0.1-1",
                "1.2-1",
                "1.10-1",
                "1:0.1-1",
            ],
        );
        for (one, two) in [("1.0-3", "1.0"), ("1_0-1", "1.0-1"), ("1.05-1", "1.5-1")] {
            assert!(
                at_least(PackageSystem::Rpm, one, two) && at_least(PackageSystem::Rpm, two, one),
                "{one} {two}"
            );
        }
    }

    #[test]
    fn windows_orders_versions() {
        in_order(PackageSystem::Windows, &["0.9", "1", "1.0.0.1", "1.2", "1.10", "22.11.0.0", "22.11.1"]);
        for (one, two) in [("1.0", "1.0.0.0"), ("1.00", "1.0"), ("7", "7.0")] {
            assert!(
                at_least(PackageSystem::Windows, one, two) && at_least(PackageSystem::Windows, two, one),
                "{one} {two}"
            );
        }
        for bad in ["1.", ".1", "1..2", "1.x", "1:1", "1-1"] {
            assert!(!is_version(PackageSystem::Windows, bad), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_version_is_never_late_enough() {
        for system in [PackageSystem::Dpkg, PackageSystem::Rpm, PackageSystem::Windows] {
            for bad in ["", ":", "1:", "x:1", "-1", "1-", "1 2", "1\n", "99999999999999999999:1", "ü", "+1:1"]
            {
                assert!(!at_least(system, "5", bad), "5 at least {bad:?}");
                assert!(!at_least(system, bad, "5"), "{bad:?} at least 5");
                assert!(!is_version(system, bad), "{bad:?}");
            }
        }
    }
}
