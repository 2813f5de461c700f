//! Names that are cut to the width of a column, so that names that differ still look different.
//!
//! Most names differ at their beginning or end, which a cut keeps. Of names that would look the
//! same, the place where they differ is shown. Where even that is too narrow, they are numbered.

use std::collections::{BTreeMap, BTreeSet};

use crate::line::{Text, width};

/// Which part of a name is cut away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The end is cut away.
    Beginning,
    /// The middle is cut away.
    BothEnds,
}

/// The names within this width.
pub(crate) fn cut_apart(names: &[&Text], width: usize, keep: Keep) -> Vec<Text> {
    let cut = |name: &Text, width: usize| match keep {
        Keep::Beginning => name.cut(width),
        Keep::BothEnds => name.cut_in_the_middle(width),
    };
    let shown: Vec<Text> = names.iter().map(|name| cut(name, width)).collect();
    let groups = alike(names, &shown);
    let apart: BTreeMap<&str, String> = groups
        .iter()
        .flat_map(|group| group.iter().copied().zip(at_difference(group, width)))
        .collect();
    let shown = changed(names, &shown, &apart);
    if alike(names, &shown).is_empty() {
        return shown;
    }
    let all: Vec<&str> = groups.concat();
    let apart = all.iter().copied().zip(numbered(&all, width, cut)).collect();
    changed(names, &shown, &apart)
}

/// The groups of different names that are shown alike.
fn alike<'a>(names: &[&'a Text], shown: &[Text]) -> Vec<Vec<&'a str>> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, short) in names.iter().zip(shown) {
        groups.entry(short.as_str()).or_default().insert(name.as_str());
    }
    let groups = groups.into_values().filter(|group| group.len() > 1);
    groups.map(|group| group.into_iter().collect()).collect()
}

/// What is shown, with other texts for some names.
fn changed(names: &[&Text], shown: &[Text], apart: &BTreeMap<&str, String>) -> Vec<Text> {
    let text = |(name, short): (&&Text, &Text)| match apart.get(name.as_str()) {
        Some(text) => short.with(text),
        None => short.clone(),
    };
    names.iter().zip(shown).map(text).collect()
}

/// Each name from a little before the place where the names begin to differ: `long…song-7…`.
fn at_difference(names: &[&str], width_max: usize) -> Vec<String> {
    let (first, others) = names.split_first().expect("a group has names");
    let same = |name: &str| first.chars().zip(name.chars()).take_while(|(a, b)| a == b).count();
    let common = others.iter().map(|name| same(name)).min().unwrap_or_default();
    // A third of the width is for the beginning, so that a person knows what kind of name it is.
    let head = Text::from(*first).cut(width_max / 3);
    let left = width_max.saturating_sub(width(head.as_str()));
    let tail = |name: &&str| {
        let rest: String = name.chars().skip(common.saturating_sub(left / 4)).collect();
        Text::from(rest).cut(left)
    };
    names.iter().map(|name| format!("{}{}", head.as_str(), tail(name).as_str())).collect()
}

/// The names with their numbers: `long-so…ng#2`.
fn numbered(names: &[&str], width: usize, cut: impl Fn(&Text, usize) -> Text) -> Vec<String> {
    let number = |(index, name): (usize, &&str)| {
        let number = format!("#{}", index + 1);
        let room = width.saturating_sub(number.len());
        Text::from(format!("{}{number}", cut(&Text::from(*name), room).as_str()))
            .cut(width)
            .as_str()
            .to_owned()
    };
    names.iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str], width: usize) -> Vec<String> {
        let names: Vec<Text> = names.iter().map(|name| Text::from(*name)).collect();
        let names: Vec<&Text> = names.iter().collect();
        let cut = cut_apart(&names, width, Keep::BothEnds);
        cut.iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn names_that_a_cut_keeps_apart_are_only_cut() {
        let names = ["songs.europe.albums", "songs.america.singles", "songs"];
        assert_eq!(shown(&names, 11), ["songs…lbums", "songs…ngles", "songs"]);
    }

    #[test]
    fn names_with_the_same_beginning_and_end_show_where_they_differ() {
        let name = |middle: &str| format!("songs.of.the.year.{middle}.analyse.again");
        let (a, b) = (name("1969"), name("1970"));
        let names = shown(&[&a, &b, &a], 16);
        assert_eq!(names, ["song…1969.analy…", "song…1970.analy…", "song…1969.analy…"]);
    }

    #[test]
    fn names_that_differ_in_several_places_are_numbered() {
        let name = |one: &str, two: &str| format!("{one}{}{two}{}", "x".repeat(40), "y".repeat(40));
        let names = [name("aaaa", "1"), name("aaaa", "2"), name("aaab", "1"), name("aaab", "2")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let shown = shown(&names, 9);
        assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), 4, "{shown:?}");
    }

    #[test]
    fn no_name_is_wider_than_its_column() {
        let names: Vec<String> =
            (0..40).map(|n| format!("{}{n}{}", "다".repeat(20), "이".repeat(20))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for width_max in 0..60 {
            for name in shown(&names, width_max) {
                assert!(width(&name) <= width_max, "{width_max}: {name}");
            }
        }
    }
}
