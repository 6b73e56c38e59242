package stemforge;

/** From the nets' magnitude estimates to shares of the mixture. */
public final class Masks {
  private static final float EPSILON = 1e-10f;

  private Masks() {}

  /**
   * Ratio masks (e_k^2 + eps / K) / (sum_j e_j^2 + eps) of two stems or more; of a single one the
   * net's own mask, e / mixture.
   *
   * @param estimates magnitudes by stem, each as long as the mixture; replaced by the masks
   * @param mixture magnitudes that the nets were given
   */
  public static void fromEstimates(float[][] estimates, float[] mixture) {
    int stems = estimates.length;
    for (int n = 0; n < mixture.length; n++) {
      if (stems == 1) {
        estimates[0][n] = mixture[n] > 0.0f ? estimates[0][n] / mixture[n] : 0.0f;
        continue;
      }
      float total = EPSILON;
      for (float[] estimate : estimates) {
        total += estimate[n] * estimate[n];
      }
      for (float[] estimate : estimates) {
        estimate[n] = (estimate[n] * estimate[n] + EPSILON / stems) / total;
      }
    }
  }
}
