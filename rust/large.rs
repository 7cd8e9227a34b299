//! Large arrays in large pages.

use crate::platform::advise_large_pages;

/// An array of zeros that no one has touched yet.
///
/// Its pages are cleared by the operating system when they are first written,
/// so by the threads that fill it; large ones where there are any, because
/// with small ones that takes longer than computing what is written.
pub(crate) fn zeros<T: Copy + Default>(length: usize) -> Vec<T> {
    let array = vec![T::default(); length];
    advise_large_pages(&array);
    array
}

#[cfg(test)]
mod tests {
    use super::zeros;

    #[test]
    fn arrays_of_any_size_are_zero() {
        for length in [0, 1, 1000, 1 << 20, (1 << 22) + 77] {
            let array = zeros::<f32>(length);
            assert_eq!(array.len(), length);
            assert!(array.iter().all(|&x| x.to_bits() == 0));
        }
    }
}
