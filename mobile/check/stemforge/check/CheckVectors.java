package stemforge.check;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import stemforge.Masks;
import stemforge.StemSeparator;
import stemforge.Stft;

/** Compares this port with a folder of golden vectors, as `stemforge export` writes it. */
public final class CheckVectors {
  private static final double BOUND = 1e-4;

  private final Path folder;
  private double worst;

  private CheckVectors(Path folder) {
    this.folder = folder;
  }

  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 1) {
      System.err.println("usage: java stemforge.check.CheckVectors FOLDER");
      System.exit(2);
    }
    CheckVectors check = new CheckVectors(Paths.get(arguments[0]));
    check.run();
    System.exit(check.worst <= BOUND ? 0 : 1);
  }

  private void run() throws IOException {
    int frames = 0;
    int bins = 0;
    int length = 0;
    int hop = 0;
    List<String> stems = new ArrayList<>();
    for (String line : Files.readAllLines(folder.resolve("vectors.txt"))) {
      String[] words = line.split(" ");
      switch (words[0]) {
        case "frames":
          frames = Integer.parseInt(words[1]);
          break;
        case "bins":
          bins = Integer.parseInt(words[1]);
          break;
        case "frame_length_samples":
          length = Integer.parseInt(words[1]);
          break;
        case "frame_step_samples":
          hop = Integer.parseInt(words[1]);
          break;
        case "stems":
          stems.addAll(Arrays.asList(words).subList(1, words.length));
          break;
        default:
          break; // meant for other readers
      }
    }
    float[] waveform = read("waveform");
    float[] magnitudes = read("magnitude");
    float[][] estimates = readAll("estimate", stems);
    float[][] masks = readAll("mask", stems);
    float[][] outputs = readAll("output", stems);

    // The first frames of the song lie in the zeros before it, so the STFT is checked within.
    Stft stft = new Stft(length, hop);
    checkMagnitudes(stft, waveform, magnitudes, bins);

    float[][] found = new float[stems.size()][];
    for (int stem = 0; stem < found.length; stem++) {
      found[stem] = estimates[stem].clone();
    }
    Masks.fromEstimates(found, magnitudes);
    for (int stem = 0; stem < found.length; stem++) {
      report("mask of " + stems.get(stem), difference(found[stem], masks[stem]));
    }

    int segment = frames * bins * 2;
    int[] position = {0};
    StemSeparator.Nets nets =
        mixture -> {
          int from = position[0];
          position[0] += segment;
          report(
              "magnitudes of segment " + from / segment + ", of the largest",
              difference(mixture, Arrays.copyOfRange(magnitudes, from, from + segment))
                  / largest(magnitudes));
          float[][] out = new float[stems.size()][];
          for (int stem = 0; stem < out.length; stem++) {
            out[stem] = Arrays.copyOfRange(estimates[stem], from, from + segment);
          }
          return out;
        };
    StemSeparator separator = new StemSeparator(nets, stems.size(), frames, bins, stft);
    float[][] result = new float[stems.size()][0];
    Random random = new Random(1);
    for (int start = 0; start < waveform.length; ) {
      int end = Math.min(waveform.length, start + 2 * random.nextInt(20000));
      result = append(result, separator.push(Arrays.copyOfRange(waveform, start, end)));
      start = end;
    }
    result = append(result, separator.finish());
    for (int stem = 0; stem < stems.size(); stem++) {
      report("output of " + stems.get(stem), difference(result[stem], outputs[stem]));
    }
  }

  private void checkMagnitudes(Stft stft, float[] waveform, float[] magnitudes, int bins) {
    int first = stft.length / stft.hop; // of the frames without zeros from before the song
    int count = Math.min(8, (waveform.length / 2 - stft.length) / stft.hop + 1);
    double[] real = new double[stft.bins];
    double[] imaginary = new double[stft.bins];
    double most = 0.0;
    for (int channel = 0; channel < 2; channel++) {
      float[] samples = new float[waveform.length / 2];
      for (int n = 0; n < samples.length; n++) {
        samples[n] = waveform[2 * n + channel];
      }
      for (int t = 0; t < count; t++) {
        stft.analyse(samples, t * stft.hop, real, imaginary);
        for (int bin = 0; bin < bins; bin++) {
          double golden = magnitudes[((first + t) * bins + bin) * 2 + channel];
          most = Math.max(most, Math.abs(Math.hypot(real[bin], imaginary[bin]) - golden));
        }
      }
    }
    report("STFT, of the largest magnitude", most / largest(magnitudes));
  }

  private void report(String what, double difference) {
    System.out.printf("%-45s %.1e%n", what, difference);
    worst = Math.max(worst, Double.isNaN(difference) ? Double.POSITIVE_INFINITY : difference);
  }

  private float[] read(String name) throws IOException {
    return Raw.read(folder.resolve(name + ".f32"));
  }

  private float[][] readAll(String kind, List<String> stems) throws IOException {
    float[][] out = new float[stems.size()][];
    for (int stem = 0; stem < out.length; stem++) {
      out[stem] = read(kind + "_" + stems.get(stem));
    }
    return out;
  }

  private static double difference(float[] found, float[] golden) {
    if (found.length != golden.length) {
      return Double.POSITIVE_INFINITY;
    }
    double most = 0.0;
    for (int n = 0; n < found.length; n++) {
      double here = Math.abs(found[n] - golden[n]);
      most = here <= most ? most : here; // NaN counts
    }
    return most;
  }

  private static double largest(float[] values) {
    double most = 0.0;
    for (float value : values) {
      most = Math.max(most, Math.abs(value));
    }
    return most;
  }

  private static float[][] append(float[][] before, float[][] after) {
    float[][] out = new float[before.length][];
    for (int stem = 0; stem < before.length; stem++) {
      out[stem] = Arrays.copyOf(before[stem], before[stem].length + after[stem].length);
      System.arraycopy(after[stem], 0, out[stem], before[stem].length, after[stem].length);
    }
    return out;
  }
}
