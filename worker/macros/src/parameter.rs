//! Where the value of one parameter comes from: the run's context, the data that the worker was
//! given, or the arguments of the task. The macro sees no more than the name of the parameter's
//! type, so the names `Context` and `Data<..>` decide.

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// What a parameter is given.
pub(crate) enum Given {
    Context,
    /// The worker's shared value of this type.
    Data(Box<Type>),
    /// The next of the task's arguments.
    Argument,
}

/// One parameter of the function.
pub(crate) struct Parameter {
    pub(crate) given: Given,
    pub(crate) borrowed: bool,
}

impl Parameter {
    /// Reads the type of a parameter.
    pub(crate) fn of(kind: &Type) -> syn::Result<Self> {
        let Type::Reference(reference) = kind else {
            return Ok(Self { given: given(kind)?, borrowed: false });
        };
        let given = given(&reference.elem)?;
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

fn given(kind: &Type) -> syn::Result<Given> {
    let Some(segment) = last_segment(kind) else { return Ok(Given::Argument) };
    match &segment.arguments {
        _ if segment.ident == "Context" => Ok(Given::Context),
        // A type of the user's own that happens to be called so mostly takes no parameters; it is
        // an argument.
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

fn owned_is_needed(kind: &Type, inner: &Type) -> syn::Error {
    let owned = match inner.to_token_stream().to_string().as_str() {
        "str" => "take `String`",
        _ => "take the owned type",
    };
    syn::Error::new(
        kind.span(),
        format!("an argument comes out of a message and must be owned: {owned}"),
    )
}

/// The last word of a type's path, with what stands between its angle brackets.
pub(crate) fn last_segment(kind: &Type) -> Option<&PathSegment> {
    match kind {
        Type::Path(path) => path.path.segments.last(),
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
