//! Where the value of a parameter comes from: the run's context, the worker's data, or the
//! arguments of the task. The macro sees only the name of the parameter's type, so the names
//! `Context` and `Data<..>` decide.

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// The value that a parameter gets.
pub(crate) enum Given {
    /// The context of the run.
    Context,
    /// The worker's shared value of this type.
    Data(Box<Type>),
    /// The next of the task's arguments.
    Argument,
}

/// One parameter of the function.
pub(crate) struct Parameter {
    /// Where its value comes from.
    pub(crate) given: Given,
    /// Whether the function takes it by reference.
    pub(crate) borrowed: bool,
}

impl Parameter {
    /// Reads the type of a parameter.
    pub(crate) fn of(kind: &Type) -> syn::Result<Self> {
        // A type that is no reference is given by value.
        let Type::Reference(reference) = kind else {
            return Ok(Self { given: given(kind)?, borrowed: false });
        };
        let given = given(&reference.elem)?;
        // Only what is shared comes as a reference. An argument belongs to the run.
        match (&given, reference.mutability) {
            (Given::Argument, _) => Err(owned_is_needed(kind, &reference.elem)),
            (Given::Context, Some(keyword)) => {
                Err(syn::Error::new(keyword.span(), "the context is shared: take `&Context`"))
            }
            (Given::Data(_), Some(keyword)) => Err(syn::Error::new(
                keyword.span(),
                "the data is shared: take `&Data<..>`, with a lock inside",
            )),
            (_, None) => Ok(Self { given, borrowed: true }),
        }
    }
}

/// What a type says about the value.
fn given(kind: &Type) -> syn::Result<Given> {
    let Some(segment) = last_segment(kind) else { return Ok(Given::Argument) };
    match &segment.arguments {
        _ if segment.ident == "Context" => Ok(Given::Context),
        // A type of the user's own with the name `Data` usually has no parameters. It is an
        // argument.
        PathArguments::AngleBracketed(generics) if segment.ident == "Data" => {
            let mut kinds = generics.args.iter();
            match (kinds.next(), kinds.next()) {
                (Some(GenericArgument::Type(kind)), None) => {
                    Ok(Given::Data(Box::new(kind.clone())))
                }
                _ => Err(syn::Error::new(
                    generics.span(),
                    "`Data` takes one type, as in `Data<Pool>`",
                )),
            }
        }
        _ => Ok(Given::Argument),
    }
}

/// The refusal of an argument that is a reference.
fn owned_is_needed(kind: &Type, inner: &Type) -> syn::Error {
    // The usual case has an advice of its own.
    let owned = match inner.to_token_stream().to_string().as_str() {
        "str" => "take `String`",
        _ => "take the owned type",
    };
    syn::Error::new(
        kind.span(),
        format!("an argument is read from a message and must be owned: {owned}"),
    )
}

/// The last segment of a type's path, with its parameters.
pub(crate) fn last_segment(kind: &Type) -> Option<&PathSegment> {
    match kind {
        Type::Path(path) => path.path.segments.last(),
        // A type that a macro wrote may be in a group.
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let kind = syn::parse_str::<Type>(text).expect("a type");
        let parameter = Parameter::of(&kind).map_err(|error| error.to_string())?;
        let given = match parameter.given {
            Given::Context => "the context".to_owned(),
            Given::Data(kind) => format!("data of {}", kind.to_token_stream()),
            Given::Argument => "an argument".to_owned(),
        };
        Ok(if parameter.borrowed { format!("{given}, borrowed") } else { given })
    }

    #[test]
    fn the_name_of_its_type_says_what_a_parameter_is_given() {
        for (text, expected) in [
            ("String", "an argument"),
            ("Context", "the context"),
            ("celeriac_worker::Context", "the context"),
            ("&Context", "the context, borrowed"),
            ("Data<Pool>", "data of Pool"),
            ("&celeriac_worker::Data<Pool>", "data of Pool, borrowed"),
            ("Data", "an argument"),
            ("Vec<Data<u8>>", "an argument"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_the_reason() {
        for (text, reason) in [
            ("&mut Context", "take `&Context`"),
            ("&mut Data<Pool>", "with a lock inside"),
            ("Data<u8, u8>", "one type"),
            ("&str", "take `String`"),
            ("&[u8]", "owned"),
        ] {
            let refusal = read(text).expect_err(text);
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
