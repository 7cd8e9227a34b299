//! Large arrays in large pages.

/// An array of zeros that no one has touched yet.
///
/// Its pages are cleared by the operating system when they are first written,
/// so by the threads that fill it; large ones where there are any, because
/// with small ones that takes longer than computing what is written.
pub(crate) fn zeros<T: Copy + Default>(length: usize) -> Vec<T> {
    let array = vec![T::default(); length];
    #[cfg(target_os = "linux")]
    advise_large_pages(&array);
    array
}

#[cfg(target_os = "linux")]
fn advise_large_pages<T>(array: &[T]) {
    /// The size of a large page on the machines where there are such.
    const LARGE_PAGE: usize = 1 << 21;
    let start = array.as_ptr().addr().next_multiple_of(LARGE_PAGE);
    let end = (array.as_ptr().addr() + size_of_val(array)) / LARGE_PAGE * LARGE_PAGE;
    if start < end {
        let start = array.as_ptr().with_addr(start).cast_mut().cast();
        // SAFETY: the range is within the array, and the advice changes
        // nothing in it. That it may be refused is no loss.
        let _ = unsafe {
            rustix::mm::madvise(start, end - start.addr(), rustix::mm::Advice::LinuxHugepage)
        };
    }
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
