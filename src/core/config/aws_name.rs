//! The shapes of AWS's names and ids: an impossible one is reported at the start, and not at the notice. The rules are
//! no narrower than AWS's own. For ids they are wider, because AWS has made ids longer before.

use std::ops::RangeInclusive;

/// A kind of name, and its rule.
pub(super) struct AwsName {
    /// The prefix of the name.
    begins: &'static str,
    /// The characters that it may have beside ASCII letters and digits.
    others: &'static str,
    /// A text that the name contains.
    within: &'static str,
    /// A letter or a digit stands at both of its ends.
    has_plain_ends: bool,
    length: RangeInclusive<usize>,
    /// The rule as a sentence.
    rule: &'static str,
}

pub(super) const TARGET_GROUP: AwsName = AwsName {
    begins: "",
    others: "-",
    within: "",
    has_plain_ends: true,
    length: 1..=32,
    rule: "a target group's name has at most 32 letters, digits and hyphens, and no hyphen at its ends",
};

pub(super) const LAUNCH_TEMPLATE: AwsName = AwsName {
    begins: "",
    others: "()./-_",
    within: "",
    has_plain_ends: false,
    length: 3..=128,
    rule: "a launch template's id or name has 3 to 128 letters, digits and characters of ( ) . / - _",
};

pub(super) const SUBNET: AwsName = AwsName {
    begins: "subnet-",
    others: "-",
    within: "",
    has_plain_ends: true,
    length: 8..=64,
    rule: "a subnet's id looks like \"subnet-0123456789abcdef0\"",
};

pub(super) const INSTANCE_TYPE: AwsName = AwsName {
    begins: "",
    others: "-.",
    within: ".",
    has_plain_ends: true,
    length: 3..=64,
    rule: "an instance type has a family and a size, such as \"m7g.large\"",
};

impl AwsName {
    /// Errs with a sentence for a person.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric();
        let fits = self.length.contains(&name.chars().count())
            && name.starts_with(self.begins)
            && name.contains(self.within)
            && name.chars().all(|letter| is_plain(letter) || self.others.contains(letter))
            && (!self.has_plain_ends || (name.starts_with(is_plain) && name.ends_with(is_plain)));
        if fits { Ok(()) } else { Err(format!("{name:?} cannot be right: {}", self.rule)) }
    }
}

/// A version of a launch template: its number, or one of AWS's two words.
pub(super) fn is_version(version: &str) -> bool {
    ["$Latest", "$Default"].contains(&version) || version.parse::<u64>().is_ok_and(|number| number > 0)
}
