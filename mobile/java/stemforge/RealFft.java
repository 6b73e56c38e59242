package stemforge;

/** FFT of real signals whose length is a power of two, and its inverse. */
final class RealFft {
  private final int length;
  private final double[] cosines; // cos(2 pi k / length), k below length / 2
  private final double[] sines;
  private final double[] real;
  private final double[] imaginary;

  RealFft(int length) {
    if (length < 4 || Integer.bitCount(length) != 1) {
      throw new IllegalArgumentException("length " + length + ": must be a power of two, 4 or more");
    }
    this.length = length;
    cosines = new double[length / 2];
    sines = new double[length / 2];
    for (int k = 0; k < length / 2; k++) {
      cosines[k] = Math.cos(2.0 * Math.PI * k / length);
      sines[k] = Math.sin(2.0 * Math.PI * k / length);
    }
    real = new double[length / 2];
    imaginary = new double[length / 2];
  }

  /** Bins 0 to length / 2 of the FFT of {@code signal}, real and imaginary parts. */
  void forward(double[] signal, double[] outReal, double[] outImaginary) {
    int half = length / 2;
    // Even samples as real, odd ones as imaginary part: an FFT of half the length.
    for (int n = 0; n < half; n++) {
      real[n] = signal[2 * n];
      imaginary[n] = signal[2 * n + 1];
    }
    transform();
    for (int k = 0; k <= half; k++) {
      int here = k % half;
      int mirror = (half - k) % half;
      double evenReal = 0.5 * (real[here] + real[mirror]);
      double evenImaginary = 0.5 * (imaginary[here] - imaginary[mirror]);
      double oddReal = 0.5 * (imaginary[here] + imaginary[mirror]);
      double oddImaginary = 0.5 * (real[mirror] - real[here]);
      double c = k == half ? -1.0 : cosines[k];
      double s = k == half ? 0.0 : sines[k];
      outReal[k] = evenReal + c * oddReal + s * oddImaginary;
      outImaginary[k] = evenImaginary + c * oddImaginary - s * oddReal;
    }
  }

  /** The real signal whose FFT has these bins 0 to length / 2. */
  void inverse(double[] inReal, double[] inImaginary, double[] signal) {
    int half = length / 2;
    for (int k = 0; k < half; k++) {
      int mirror = half - k;
      double evenReal = 0.5 * (inReal[k] + inReal[mirror]);
      double evenImaginary = 0.5 * (inImaginary[k] - inImaginary[mirror]);
      double differenceReal = 0.5 * (inReal[k] - inReal[mirror]);
      double differenceImaginary = 0.5 * (inImaginary[k] + inImaginary[mirror]);
      double oddReal = cosines[k] * differenceReal - sines[k] * differenceImaginary;
      double oddImaginary = cosines[k] * differenceImaginary + sines[k] * differenceReal;
      real[k] = evenReal - oddImaginary;
      imaginary[k] = -(evenImaginary + oddReal); // conjugated: the inverse by the forward FFT
    }
    transform();
    for (int n = 0; n < half; n++) {
      signal[2 * n] = real[n] / half;
      signal[2 * n + 1] = -imaginary[n] / half;
    }
  }

  /** In place, complex, of half the length: radix 2, decimation in time. */
  private void transform() {
    int count = length / 2;
    for (int n = 1, reversed = 0; n < count; n++) {
      int bit = count >> 1;
      while ((reversed & bit) != 0) {
        reversed ^= bit;
        bit >>= 1;
      }
      reversed |= bit;
      if (n < reversed) {
        double swap = real[n];
        real[n] = real[reversed];
        real[reversed] = swap;
        swap = imaginary[n];
        imaginary[n] = imaginary[reversed];
        imaginary[reversed] = swap;
      }
    }
    for (int size = 2; size <= count; size *= 2) {
      int stride = length / size; // of the twiddle factors, which are those of `length`
      for (int start = 0; start < count; start += size) {
        for (int k = 0; k < size / 2; k++) {
          int low = start + k;
          int high = low + size / 2;
          double c = cosines[k * stride];
          double s = sines[k * stride];
          double turnedReal = c * real[high] + s * imaginary[high];
          double turnedImaginary = c * imaginary[high] - s * real[high];
          real[high] = real[low] - turnedReal;
          imaginary[high] = imaginary[low] - turnedImaginary;
          real[low] += turnedReal;
          imaginary[low] += turnedImaginary;
        }
      }
    }
  }
}
