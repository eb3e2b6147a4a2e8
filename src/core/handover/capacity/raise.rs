//! The progress of our own raise.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Raise {
    #[default]
    NotBegun,
    /// The first call is under way.
    Begun,
    /// The raise was accepted, or the answer leaves that open.
    Stands,
    /// The raise stood, and was put back until another victim has gone.
    StoodBack,
}

impl Raise {
    pub(super) fn is_begun(self) -> bool {
        matches!(self, Raise::Begun | Raise::Stands)
    }

    pub(super) fn may_have_been_done(self) -> bool {
        matches!(self, Raise::Stands | Raise::StoodBack)
    }
}
