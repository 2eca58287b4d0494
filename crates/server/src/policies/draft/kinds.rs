//! The kinds of rules, as the form offers them.

use elevon_policy::rule::Needs;

/// A kind of rule, as the form offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The machine's word.
    pub word: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// What it matches, in one line.
    pub told: &'static str,
    /// What is typed in.
    pub fields: &'static [Field],
    /// What can be ticked: the field's name, and what it means.
    pub tick: Option<(&'static str, &'static str)>,
    /// Why it matches nothing in this version.
    pub needs: Option<Needs>,
    /// Whether a minimum version makes sense.
    pub versioned: bool,
}

/// A field of a kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Behind `rules.N.`.
    pub name: &'static str,
    /// What people call it.
    pub label: &'static str,
    /// What it could be.
    pub example: &'static str,
    /// Whether it is read letter by letter.
    pub mono: bool,
}

const fn field(name: &'static str, label: &'static str, example: &'static str, mono: bool) -> Field {
    Field { name, label, example, mono }
}

const VENDOR: Field = field("vendor", "Vendor", "Debian", false);
const PRODUCT: Field = field("product", "Product", "tcpdump", false);

/// The six kinds, the narrowest first, as they win.
pub const KINDS: [Kind; 6] = [
    Kind {
        word: "file_hash",
        name: "File hash",
        told: "These very bytes, wherever they lie. The narrowest: a changed file is another file.",
        fields: &[
            field("sha256", "SHA-256", "64 digits, as sha256sum prints them", true),
            field("display_name", "Display name", "tcpdump; decides nothing", false),
        ],
        tick: None,
        needs: None,
        versioned: false,
    },
    Kind {
        word: "verified_executable",
        name: "Verified executable",
        told: "One file of a product by a vendor, unmodified since its package.",
        fields: &[PRODUCT, VENDOR, field("file_name", "File name", "tcpdump", true)],
        tick: None,
        needs: None,
        versioned: true,
    },
    Kind {
        word: "product",
        name: "Product",
        told: "Every program of a product by a vendor.",
        fields: &[PRODUCT, VENDOR],
        tick: None,
        needs: None,
        versioned: true,
    },
    Kind {
        word: "vendor",
        name: "Vendor",
        told: "Every program by a vendor.",
        fields: &[VENDOR],
        tick: Some(("verified", "Only where a signature stands behind the vendor’s name")),
        needs: None,
        versioned: true,
    },
    Kind {
        word: "clsid",
        name: "Component",
        told: "A component: on Linux a polkit action, or a D-Bus name for all actions that its package ships. A grant ends new authorizations; what was begun with one goes on.",
        fields: &[field(
            "component",
            "Component identifier",
            "org.freedesktop.packagekit.package-install",
            true,
        )],
        tick: None,
        needs: None,
        versioned: true,
    },
    Kind {
        word: "folder_path",
        name: "Folder path",
        told: "Every program in a folder where nobody but root can write. What others can change there never matches.",
        fields: &[field("path", "Folder", "/opt/acme/tools", true)],
        tick: Some(("with_subfolders", "With sub-folders")),
        needs: None,
        versioned: false,
    },
];

/// A rule that this version cannot read; it is kept as it came.
pub const UNREADABLE: Kind = Kind {
    word: "unreadable",
    name: "Unknown rule",
    told: "This version does not know this kind of rule.",
    fields: &[],
    tick: None,
    needs: Some(Needs::NewerVersion),
    versioned: false,
};
