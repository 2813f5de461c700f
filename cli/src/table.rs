//! Tables for people: columns with a heading, an importance and an alignment, fitted to the width
//! of a terminal.
//!
//! The rule for a terminal that is too narrow: the least important columns are left out, one after
//! the other, until every other column has at least its least width. The heading then ends with
//! `…`. Width that is left over goes to the columns in the order of their importance. A column that
//! has less than it needs shows its texts cut, with `…`; names that differ still look different.
//! Numbers are never cut. Ids of usual length are cut, in the middle, only for columns that are
//! worth more than a whole id, such as a note, and for those that are always shown.

use crate::apart::{Keep, cut_apart};
use crate::line::{Line, Text, Tone, width};

/// The blank columns of the terminal between two columns of a table.
const GAP: usize = 2;

/// The room for an id before other columns are left out: a UUID is whole.
const ID_LEAST: usize = 36;
/// The room for an id before the columns of these ranks are left out.
const ID_NARROW: usize = 20;
const RANK_OVER_IDS: u8 = 3;
/// The room for a name when the columns that are always shown need the rest.
const NAME_NARROWEST: usize = 9;

/// Shown in every table.
pub(crate) const ALWAYS: u8 = 0;

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    heading: &'static str,
    /// [`ALWAYS`], or from 1 upwards; the greatest number is left out first.
    rank: u8,
    is_right: bool,
    is_name: bool,
    /// Different texts look different, also when they are cut.
    is_apart: bool,
    /// The least width of a column with longer texts. `None`: its texts are never cut.
    least: Option<usize>,
    /// The same for the sake of a column that is worth more than a whole id.
    narrow: usize,
    narrowest: usize,
}

/// How much the columns yield to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yield {
    /// Ids of usual length are whole.
    Little,
    /// Ids are cut.
    Ids,
    /// Every name is cut as far as it has a meaning.
    All,
}

impl Column {
    /// The id of a row.
    pub(crate) const fn id(heading: &'static str) -> Self {
        Self { narrow: ID_NARROW, ..Self::name(heading, ID_LEAST) }
    }

    /// The name of a row. Other columns are left out before it gets less than this width.
    pub(crate) const fn name(heading: &'static str, least: usize) -> Self {
        let (least, narrow, narrowest) = (Some(least), least, NAME_NARROWEST);
        let (rank, is_right, is_name, is_apart) = (ALWAYS, false, true, true);
        Self { heading, rank, is_right, is_name, is_apart, least, narrow, narrowest }
    }

    /// Text of any length. It may be cut to this width.
    pub(crate) const fn text(heading: &'static str, rank: u8, least: usize) -> Self {
        let (least, narrow, narrowest) = (Some(least), least, least);
        let (is_right, is_name, is_apart) = (false, false, false);
        Self { heading, rank, is_right, is_name, is_apart, least, narrow, narrowest }
    }

    /// A name of something else than the row. It may be cut to this width.
    pub(crate) const fn other_name(heading: &'static str, rank: u8, least: usize) -> Self {
        Self { is_apart: true, ..Self::text(heading, rank, least) }
    }

    /// A short text that is never cut, such as a state.
    pub(crate) const fn word(heading: &'static str, rank: u8) -> Self {
        let (is_right, is_name, is_apart) = (false, false, false);
        let (least, narrow, narrowest) = (None, 0, 0);
        Self { heading, rank, is_right, is_name, is_apart, least, narrow, narrowest }
    }

    /// A number or a span, on the right of its column. It is never cut.
    pub(crate) const fn number(heading: &'static str, rank: u8) -> Self {
        Self { is_right: true, ..Self::word(heading, rank) }
    }

    /// The narrowest that the column may be, when its texts need `natural`.
    fn least(&self, natural: usize, yields: Yield) -> usize {
        match (self.least, yields) {
            (None, _) => natural,
            (Some(least), Yield::Little) => natural.min(least),
            (Some(_), Yield::Ids) => natural.min(self.narrow),
            (Some(_), Yield::All) => natural.min(self.narrowest),
        }
    }
}

/// Rows under headings. No lines are drawn, so that people and `awk` can read the table.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Text>>,
    /// The user chose these columns: none is left out, and ids are whole.
    is_chosen: bool,
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), is_chosen: false }
    }

    /// A table that shows all its columns, and ids whole, also where it does not fit.
    pub(crate) fn chosen(columns: &[Column]) -> Self {
        Self { is_chosen: true, ..Self::new(columns) }
    }

    /// Adds a row, with one text for each column.
    pub(crate) fn push(&mut self, row: Vec<Text>) {
        assert_eq!(row.len(), self.columns.len(), "a row has a text for each column");
        self.rows.push(row);
    }

    /// The heading and the rows, for a terminal of this width. Without a width all columns are
    /// there and nothing is cut.
    pub(crate) fn lines(&self, width_max: Option<usize>) -> Vec<Line> {
        let widths = self.widths(width_max);
        let is_shown = |index: &usize| widths[*index].is_some();
        let shown: Vec<usize> = (0..self.columns.len()).filter(is_shown).collect();
        let headings: Vec<Text> =
            self.columns.iter().map(|column| Text::new(column.heading, Tone::Heading)).collect();
        let cut = self.cut(&widths);
        let line = |row: &[Text]| {
            let mut line = Line::default();
            let mut blank = 0;
            for index in &shown {
                let column = &self.columns[*index];
                let width = widths[*index].unwrap_or_default();
                let text = &row[*index];
                let rest = width - text.width();
                let (before, after) = if column.is_right { (rest, 0) } else { (0, rest) };
                // Blanks are written only before a text, so that no line ends with blanks.
                if !text.is_empty() {
                    line.push(" ".repeat(blank + before));
                    line.push(text.clone());
                    blank = after + GAP;
                } else {
                    blank += width + GAP;
                }
            }
            line
        };
        let headings: Vec<Text> = std::iter::zip(&headings, &widths)
            .map(|(heading, width)| heading.cut(width.unwrap_or_default()))
            .collect();
        let mut lines = vec![line(&headings)];
        if shown.len() < self.columns.len() {
            lines[0].push(Text::new(" …", Tone::Heading));
        }
        lines.extend(cut.iter().map(|row| line(row)));
        match self.is_chosen {
            true => lines,
            false => lines.into_iter().map(|line| line.cut(width_max)).collect(),
        }
    }

    /// The rows with each text cut to the width of its column.
    fn cut(&self, widths: &[Option<usize>]) -> Vec<Vec<Text>> {
        let mut rows = self.rows.clone();
        for (index, column) in self.columns.iter().enumerate() {
            let Some(width) = widths[index] else { continue };
            let keep = if column.is_name { Keep::BothEnds } else { Keep::Beginning };
            let texts: Vec<&Text> = self.rows.iter().map(|row| &row[index]).collect();
            let texts = match column.is_apart {
                true => cut_apart(&texts, width, keep),
                false => texts.iter().map(|text| text.cut(width)).collect(),
            };
            for (row, text) in rows.iter_mut().zip(texts) {
                row[index] = text;
            }
        }
        rows
    }

    /// The width of each column; `None` for a column that is left out.
    fn widths(&self, width_max: Option<usize>) -> Vec<Option<usize>> {
        let natural: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let texts = self.rows.iter().map(|row| row[index].width());
                texts.max().unwrap_or(0).max(width(self.columns[index].heading))
            })
            .collect();
        let Some(width_max) = width_max.filter(|width_max| total(natural.iter()) > *width_max)
        else {
            return natural.into_iter().map(Some).collect();
        };
        if self.is_chosen {
            let least = |index: usize| match self.columns[index].is_name {
                true => natural[index],
                false => self.columns[index].least(natural[index], Yield::Little),
            };
            let widths = (0..natural.len()).map(|index| Some(least(index))).collect();
            return self.distribute(widths, &natural, width_max);
        }
        let mut ranks: Vec<u8> = self.columns.iter().map(|column| column.rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let ways = |rank: &u8| {
            let ids = (1..=RANK_OVER_IDS).contains(rank).then_some((*rank, Yield::Ids));
            [(*rank, Yield::Little)].into_iter().chain(ids)
        };
        let candidates = ranks.iter().rev().flat_map(ways).chain([(ALWAYS, Yield::All)]);
        for (rank_max, yields) in candidates {
            let widths: Vec<Option<usize>> = std::iter::zip(&self.columns, &natural)
                .map(|(column, natural)| {
                    let is_shown = column.rank <= rank_max;
                    is_shown.then(|| column.least(*natural, yields))
                })
                .collect();
            // The mark of the heading needs two columns of the terminal.
            let is_whole = widths.iter().all(Option::is_some);
            let room = if is_whole { width_max } else { width_max.saturating_sub(2) };
            if total(widths.iter().flatten()) <= room || yields == Yield::All {
                return self.distribute(widths, &natural, room);
            }
        }
        natural.into_iter().map(Some).collect()
    }

    /// Gives the width that is left over to the columns: to names up to their least width, then to
    /// the others in the order of their importance, and then to names.
    fn distribute(
        &self,
        mut widths: Vec<Option<usize>>,
        natural: &[usize],
        room: usize,
    ) -> Vec<Option<usize>> {
        let mut left = room.saturating_sub(total(widths.iter().flatten()));
        let mut grow = |index: usize, width_max: usize| {
            if let Some(width) = &mut widths[index] {
                let more = width_max.saturating_sub(*width).min(left);
                *width += more;
                left -= more;
            }
        };
        let (names, mut others): (Vec<usize>, Vec<usize>) =
            (0..natural.len()).partition(|index| self.columns[*index].is_name);
        for index in &names {
            grow(*index, self.columns[*index].least(natural[*index], Yield::Little));
        }
        others.sort_by_key(|index| self.columns[*index].rank);
        for index in others.into_iter().chain(names) {
            grow(index, natural[index]);
        }
        widths
    }
}

/// The width of columns of these widths, with the gaps between them.
fn total<'a>(widths: impl Iterator<Item = &'a usize>) -> usize {
    widths.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::id("ID"),
        Column::word("STATE", ALWAYS),
        Column::number("COUNT", 2),
        Column::text("NOTE", 1, 6),
    ];

    fn shown(table: &Table, width: Option<usize>) -> Vec<String> {
        table.lines(width).iter().map(|line| line.render(false)).collect()
    }

    fn table(id: &str) -> Table {
        let mut table = Table::new(&COLUMNS);
        table.push(vec![id.into(), "QUEUED".into(), "7".into(), "no worker".into()]);
        table
    }

    #[test]
    fn without_a_width_everything_is_shown() {
        let lines = shown(&table("다"), None);
        assert_eq!(lines, ["ID  STATE   COUNT  NOTE", "다  QUEUED      7  no worker"]);
    }

    #[test]
    fn texts_are_cut_before_columns_are_left_out_and_columns_before_ids() {
        let at = |width| shown(&table("0123456789abcdef"), Some(width)).remove(1);
        assert_eq!(at(42), "0123456789abcdef  QUEUED      7  no worker");
        assert_eq!(at(41), "0123456789abcdef  QUEUED      7  no work…");
        assert_eq!(at(39), "0123456789abcdef  QUEUED      7  no wo…");
        assert_eq!(at(38), "0123456789abcdef  QUEUED  no worker");
        assert_eq!(at(34), "0123456789abcdef  QUEUED  no wo…");
        assert_eq!(at(33), "0123456789abcdef  QUEUED");
        assert_eq!(at(25), "0123456…9abcdef  QUEUED");
        assert_eq!(at(19), "0123…cdef  QUEUED");
        assert_eq!(at(12), "0123…cdef  …");
        assert_eq!(shown(&table("0123456789abcdef"), Some(33))[0], "ID                STATE …");
    }

    #[test]
    fn a_long_id_is_cut_in_the_middle_before_a_note_is_left_out() {
        let id = "019f3a1c-7b3c-7def-8a10-0242ac120001";
        let at = |width| shown(&table(id), Some(width)).remove(1);
        assert_eq!(at(60), format!("{id}  QUEUED      7  no…").replace("no…", "no wor…"));
        assert_eq!(at(58), "019f3a1c-7b3c-7de…8a10-0242ac120001  QUEUED      7  no wo…");
        assert_eq!(at(38), "019f3a1c-7…2ac120001  QUEUED  no wo…");
        assert_eq!(shown(&table(id), None)[1], format!("{id}  QUEUED      7  no worker"));
    }

    #[test]
    fn columns_that_the_user_chose_are_all_there_with_whole_ids() {
        let chosen = Table { is_chosen: true, ..table("0123456789abcdef") };
        let lines = shown(&chosen, Some(20));
        assert_eq!(lines[1], "0123456789abcdef  QUEUED      7  no wo…");
    }

    #[test]
    fn no_line_ends_with_blanks_or_is_wider_than_the_terminal() {
        for width in 0..60 {
            for mut table in [table(""), table("다이너마이트"), table("다"), table(&"x".repeat(90))]
            {
                table.push(vec!["".into(), "".into(), "".into(), "".into()]);
                for line in table.lines(Some(width)) {
                    assert!(line.width() <= width, "{width}: {line:?}");
                    let text = line.render(false);
                    assert_eq!(text, text.trim_end());
                }
            }
        }
    }
}
