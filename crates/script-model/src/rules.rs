//! The rules that can be switched off one by one, to see what each is there for.

/// A struct of switches, all on by default, with their names; optionally with those of another such struct in
/// front of them.
#[macro_export]
macro_rules! switches {
    ($(#[$about:meta])* pub struct $Type:ident $(with $part:ident: $Part:ty)? {
        $($(#[$meaning:meta])+ $name:ident,)+
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $Type {
            $(#[doc = concat!("As [`", stringify!($Part), "`].")] pub $part: $Part,)?
            $($(#[$meaning])+ pub $name: bool,)+
        }

        impl Default for $Type {
            fn default() -> Self {
                Self { $($part: <$Part>::default(),)? $($name: true,)+ }
            }
        }

        impl $Type {
            /// The names of all.
            pub fn names() -> impl Iterator<Item = &'static str> {
                let names = [$(stringify!($name)),+].into_iter();
                $(let names = <$Part>::names().chain(names);)?
                names
            }

            /// Switches one off; false when there is none of this name.
            pub fn switch_off(&mut self, name: &str) -> bool {
                match name {
                    $(stringify!($name) => self.$name = false,)+
                    _ => return false $(|| self.$part.switch_off(name))?,
                }
                true
            }
        }
    };
}

switches! {
    /// The rules of the scripts.
    pub struct Rules {
        /// A grant writes its pending event in the same step.
        outbox,
        /// A repeated request is not granted over the tombstone of another order.
        repeat_superseded,
        /// `settle` skips decisions below the sale's position.
        position_guard,
        /// `settle` refuses a call that begins past the sale's position: decisions are missing.
        gap_refused,
        /// `settle` refuses a sale of an epoch before PostgreSQL's.
        settle_epoch,
        /// A confirmed order takes the place of whatever its buyer holds in Redis, and its units.
        adopt_on_confirm,
        /// A shrink's units are held under its event's id until it is decided.
        shrink_hold_by_id,
        /// An ack clears its pending event only in the epoch that it was published under.
        ack_clear_epoch,
        /// A release gives units back only if the buyer's hold is the order's own.
        release_own_only,
        /// A released order leaves its key's hash behind.
        key_tombstones,
        /// A key goes on answering with its order when the buyer has ordered again.
        earlier_keys,
    }
}
