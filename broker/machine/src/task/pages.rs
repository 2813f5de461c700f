//! A collection of millions of things by number. The things are in pages of cells, so that growth
//! copies nothing and empty pages are freed.
//!
//! The lowest free number is always used next. So the things gather in few pages, and the same
//! steps give the same numbers.

use std::collections::BTreeSet;

/// The number of cells of a page. 64 words of 64 bits mark the free cells.
const PAGE_CELLS: usize = 64 * 64;
/// The number of empty pages that are kept, so that a number of things that rises and falls
/// allocates nothing.
const EMPTY_PAGES_KEPT: usize = 4;

#[derive(Debug)]
pub(crate) struct Pages<T> {
    pages: Vec<Option<Box<Page<T>>>>,
    /// Pages with a free cell, freed pages included.
    open: BTreeSet<u32>,
    empty_pages: usize,
    end: u32,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    cells: Box<[Option<T>]>,
    /// A bit for each free cell. `free_words` has a bit for each word with such a bit.
    free: [u64; 64],
    free_words: u64,
    used: usize,
}

impl<T> Page<T> {
    fn new() -> Box<Self> {
        let cells = std::iter::repeat_with(|| None).take(PAGE_CELLS).collect();
        Box::new(Self { cells, free: [u64::MAX; 64], free_words: u64::MAX, used: 0 })
    }

    fn first_free(&self) -> usize {
        let word = self.free_words.trailing_zeros() as usize;
        word * 64 + self.free[word].trailing_zeros() as usize
    }

    fn put(&mut self, at: usize, thing: T) {
        assert!(self.cells[at].is_none(), "cell {at} is taken");
        self.cells[at] = Some(thing);
        self.used += 1;
        let word = at / 64;
        self.free[word] &= !(1 << (at % 64));
        if self.free[word] == 0 {
            self.free_words &= !(1 << word);
        }
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let thing = self.cells[at].take()?;
        self.used -= 1;
        let word = at / 64;
        self.free[word] |= 1 << (at % 64);
        self.free_words |= 1 << word;
        Some(thing)
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), open: BTreeSet::new(), empty_pages: 0, end: 0, len: 0 }
    }
}

impl<T> Pages<T> {
    /// An exclusive upper bound of the numbers in use. It may be higher than the highest number
    /// plus one.
    pub fn end(&self) -> u32 {
        self.end
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The number that [`insert`](Self::insert) uses next.
    pub fn next(&self) -> u32 {
        let Some(page) = self.open.first() else { return (self.pages.len() * PAGE_CELLS) as u32 };
        let first = self.pages[*page as usize].as_ref().map_or(0, |page| page.first_free());
        page * PAGE_CELLS as u32 + first as u32
    }

    pub fn insert(&mut self, thing: T) -> u32 {
        let number = self.next();
        self.put(number, thing);
        number
    }

    /// Puts a thing under the given number, which must be free.
    pub fn put(&mut self, number: u32, thing: T) {
        let (at, cell) = (number as usize / PAGE_CELLS, number as usize % PAGE_CELLS);
        while self.pages.len() <= at {
            self.open.insert(self.pages.len() as u32);
            self.pages.push(None);
        }
        let page = match &mut self.pages[at] {
            Some(page) => {
                self.empty_pages -= usize::from(page.used == 0);
                page
            }
            none => none.insert(Page::new()),
        };
        page.put(cell, thing);
        self.end = self.end.max(number.saturating_add(1));
        self.len += 1;
        if page.used == PAGE_CELLS {
            self.open.remove(&(at as u32));
        }
    }

    pub fn take(&mut self, number: u32) -> Option<T> {
        let at = number as usize / PAGE_CELLS;
        let page = self.pages.get_mut(at)?.as_mut()?;
        let thing = page.take(number as usize % PAGE_CELLS)?;
        self.len -= 1;
        if page.used == PAGE_CELLS - 1 {
            self.open.insert(at as u32);
        }
        if page.used == 0 {
            self.empty_pages += 1;
            if self.empty_pages > EMPTY_PAGES_KEPT {
                self.give_back(at);
            }
        }
        Some(thing)
    }

    fn give_back(&mut self, at: usize) {
        self.pages[at] = None;
        self.empty_pages -= 1;
        while self.pages.last().is_some_and(Option::is_none) {
            self.pages.pop();
            self.open.remove(&(self.pages.len() as u32));
        }
        self.end = self.end.min((self.pages.len() * PAGE_CELLS) as u32);
    }

    pub fn get(&self, number: u32) -> Option<&T> {
        let page = self.pages.get(number as usize / PAGE_CELLS)?.as_ref()?;
        page.cells[number as usize % PAGE_CELLS].as_ref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(number as usize / PAGE_CELLS)?.as_mut()?;
        page.cells[number as usize % PAGE_CELLS].as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u32 = PAGE_CELLS as u32;

    #[test]
    fn the_lowest_free_number_is_used_first() {
        let mut pages = Pages::default();
        assert_eq!((0..3 * PAGE).map(|number| pages.insert(number)).max(), Some(3 * PAGE - 1));
        for number in [2 * PAGE + 5, 70, PAGE - 1, 69] {
            assert_eq!(pages.take(number), Some(number));
            assert_eq!(pages.get(number), None);
        }
        let next: Vec<u32> = (0..5).map(|_| pages.insert(0)).collect();
        assert_eq!(next, [69, 70, PAGE - 1, 2 * PAGE + 5, 3 * PAGE]);
    }

    #[test]
    fn pages_that_are_empty_are_given_back() {
        let mut pages = Pages::default();
        for number in 0..20 * PAGE {
            pages.insert(number);
        }
        for number in 0..20 * PAGE {
            assert_eq!(pages.take(number), Some(number));
            assert_eq!(pages.take(number), None);
        }
        assert_eq!(pages.pages.iter().flatten().count(), EMPTY_PAGES_KEPT);
        assert_eq!(pages.insert(1), 0);
        pages.put(19 * PAGE, 2);
        assert_eq!((pages.next(), pages.end()), (1, 19 * PAGE + 1));
        assert_eq!((pages.take(19 * PAGE), pages.get(0)), (Some(2), Some(&1)));
    }
}
