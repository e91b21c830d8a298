//! Bugs that are planted on purpose, so that the simulation proves that it would find such ones.
//!
//! Each site asks whether its bug is on: in tests a thread's own switch, with at most one of them on; elsewhere the
//! answer is a constant `false`, and the compiler leaves the site out.

/// Declares the bugs, each with what it does.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A mistake that somebody could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        #[cfg(test)]
        impl Bug {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            /// What it does.
            pub(crate) const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($what),+),)+
                }
            }
        }
    };
}

bugs! {
    /// A placeholder.
    Placeholder,
}

/// Whether a bug is on: never, outside tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

/// Whether a bug is on in this thread.
#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Turns one bug on in this thread, or all off.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
