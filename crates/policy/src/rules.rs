//! The rules of one list, in their order, with an index: which of them could have something to say about a file. A decision
//! over ten thousand rules looks at the few that name the file's digest, name, product, vendor or one of its folders.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::application::Application;
use crate::rule::{Evaluates, Listed, Recognises, Rule};

/// The rules of one list. As a document it is the list alone; the index is made when it is first needed.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    listed: Vec<Listed>,
    index: OnceLock<Index>,
}

impl Rules {
    /// Makes the index now, for whoever would not have the first decision wait for it.
    pub fn prepare(&self) {
        self.index.get_or_init(|| Index::of(&self.listed));
    }

    /// The rules that could match these files, nearly match them, or cannot be evaluated for them, in their order. All others
    /// are about something else.
    pub(crate) fn about<'a>(&'a self, features: &Features) -> impl Iterator<Item = &'a Listed> {
        let index = self.index.get_or_init(|| Index::of(&self.listed));
        index.find(features).into_iter().filter_map(|at| self.listed.get(at))
    }
}

impl Deref for Rules {
    type Target = [Listed];

    fn deref(&self) -> &[Listed] {
        &self.listed
    }
}

impl From<Vec<Listed>> for Rules {
    fn from(listed: Vec<Listed>) -> Self {
        Self { listed, index: OnceLock::new() }
    }
}

impl FromIterator<Listed> for Rules {
    fn from_iter<I: IntoIterator<Item = Listed>>(listed: I) -> Self {
        Vec::from_iter(listed).into()
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.listed == other.listed
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.listed.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// Where rules stand by the features they name: pairs of a feature and a place in the list, sorted. Two features that hash
/// alike make a rule looked at in vain, nothing more: what it recognises is always asked of the rule itself.
#[derive(Debug, Clone, Default)]
struct Index {
    places: Vec<(u64, u32)>,
    /// Where no package database is read, rules about packages cannot be evaluated, whatever they name.
    about_packages: Vec<u32>,
    /// Those that match nothing anywhere, which a decision tells of.
    reported: Vec<u32>,
}

impl Index {
    fn of(listed: &[Listed]) -> Self {
        let mut index = Self::default();
        for (at, listed) in (0..).zip(listed) {
            match listed {
                Listed::Rule(rule) => index.add(at, rule),
                Listed::Unreadable(_) => index.reported.push(at),
            }
        }
        index.places.sort_unstable();
        index
    }

    fn add(&mut self, at: u32, rule: &Rule) {
        let with = |packages| Evaluates { packages, components: true };
        if rule.not_evaluated(with(true)).is_some() {
            self.reported.push(at);
            return;
        }
        if rule.not_evaluated(with(false)).is_some() {
            self.about_packages.push(at);
        }
        let mut add = |feature: Feature<'_>| self.places.push((feature.hashed(), at));
        match &rule.recognises {
            Recognises::FileHash { sha256, display_name } => {
                add(Feature::Bytes(&sha256.0));
                add(Feature::Name(display_name.as_untrusted().as_bytes()));
            }
            Recognises::VerifiedExecutable { file_name, .. } => add(Feature::Name(file_name.as_bytes())),
            Recognises::Product { product, .. } => add(Feature::Product(product.as_untrusted())),
            Recognises::Vendor { vendor, .. } => add(Feature::Vendor(vendor.as_untrusted())),
            Recognises::FolderPath { path, .. } => {
                let path = path.as_bytes();
                add(Feature::Folder(path.strip_suffix(b"/").unwrap_or(path)));
            }
            Recognises::Clsid { component } => add(Feature::Component(component.as_untrusted())),
        }
    }

    fn find(&self, features: &Features) -> Vec<usize> {
        let mut found = self.reported.clone();
        if features.without_packages {
            found.extend(&self.about_packages);
        }
        for feature in &features.hashed {
            let start = self.places.partition_point(|(hashed, _)| hashed < feature);
            let places = self.places.get(start..).unwrap_or_default().iter();
            found.extend(places.take_while(|(hashed, _)| hashed == feature).map(|(_, at)| *at));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|at| usize::try_from(at).ok()).collect()
    }
}

/// One thing by which a rule may know a file.
#[derive(Hash)]
enum Feature<'a> {
    Bytes(&'a [u8]),
    Name(&'a [u8]),
    /// Without a slash at its end; the root folder is empty.
    Folder(&'a [u8]),
    Product(&'a str),
    Vendor(&'a str),
    Component(&'a str),
}

impl Feature<'_> {
    fn hashed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// All by which rules may know some files.
#[derive(Debug)]
pub(crate) struct Features {
    hashed: Vec<u64>,
    without_packages: bool,
}

impl Features {
    pub(crate) fn of(files: &[Application]) -> Self {
        let hashed = files.iter().flat_map(Self::of_one).collect();
        Self { hashed, without_packages: files.iter().any(|file| !file.package_database) }
    }

    fn of_one(file: &Application) -> Vec<u64> {
        if let Some(component) = &file.component {
            let names = component.services.iter().chain([&component.action]);
            return names.map(|name| Feature::Component(name.as_untrusted()).hashed()).collect();
        }
        let path = file.path.as_bytes();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut features: Vec<_> =
            slashes.map(|(at, _)| Feature::Folder(path.get(..at).unwrap_or_default()).hashed()).collect();
        features.push(Feature::Bytes(&file.sha256.0).hashed());
        features.push(Feature::Name(file.name().as_bytes()).hashed());
        if let Some(package) = &file.package {
            features.push(Feature::Product(package.product.as_untrusted()).hashed());
            features.extend(
                package.vendor.iter().map(|vendor| Feature::Vendor(vendor.name.as_untrusted()).hashed()),
            );
        }
        features
    }
}
