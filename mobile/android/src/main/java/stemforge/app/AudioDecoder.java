package stemforge.app;

import android.content.Context;
import android.media.AudioFormat;
import android.media.MediaCodec;
import android.media.MediaExtractor;
import android.media.MediaFormat;
import android.net.Uri;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;

/** The first audio track of a file, decoded by the phone. */
final class AudioDecoder implements Source {
  private static final long WAIT_US = 10_000;
  private static final int MOST_WAITS = 1000; // ten seconds: the decoder hangs

  private final Context context;
  private final MediaExtractor extractor = new MediaExtractor();
  private final MediaCodec.BufferInfo info = new MediaCodec.BufferInfo();
  private MediaCodec codec;
  private String kind = "";
  private double durationS;
  private int rateHz;
  private int channels;
  private int encoding = AudioFormat.ENCODING_PCM_16BIT;
  private boolean fed;
  private boolean begun;
  private boolean allIn;
  private boolean allOut;
  private double wantedS = -1.0; // after a seek: where the first block has to begin

  /**
   * Opens a file.
   *
   * @param gone the message where the file is not there: a string resource
   * @throws Failure it cannot be read, holds no audio, or the phone has no decoder for it
   */
  AudioDecoder(Context context, Uri uri, int gone) throws Failure {
    this.context = context;
    boolean opened = false;
    try {
      open(uri, gone);
      opened = true;
    } finally {
      if (!opened) {
        close();
      }
    }
  }

  private void open(Uri uri, int gone) throws Failure {
    try {
      context.getContentResolver().openAssetFileDescriptor(uri, "r").close();
    } catch (IOException | SecurityException | NullPointerException error) {
      throw new Failure(context, gone); // or the permission is
    }
    try {
      extractor.setDataSource(context, uri, null);
    } catch (IOException | IllegalArgumentException error) {
      throw new Failure(context, R.string.no_audio);
    }
    int track = 0;
    while (track < extractor.getTrackCount() && !isAudio(extractor.getTrackFormat(track))) {
      track++;
    }
    if (track == extractor.getTrackCount()) {
      throw new Failure(context, R.string.no_audio);
    }
    extractor.selectTrack(track);
    MediaFormat format = extractor.getTrackFormat(track);
    kind = format.getString(MediaFormat.KEY_MIME);
    rateHz = integer(format, MediaFormat.KEY_SAMPLE_RATE, 0);
    channels = integer(format, MediaFormat.KEY_CHANNEL_COUNT, 0);
    if (format.containsKey(MediaFormat.KEY_DURATION)) {
      durationS = format.getLong(MediaFormat.KEY_DURATION) / 1e6;
    }
    // Decoders that can mix surround sound down: any from Android 12L on, before that of AAC alone.
    format.setInteger(MediaFormat.KEY_MAX_OUTPUT_CHANNEL_COUNT, 2);
    format.setInteger("aac-max-output-channel_count", 2);
    try {
      codec = MediaCodec.createDecoderByType(kind);
      codec.configure(format, null, null, 0);
      codec.start();
    } catch (IOException | IllegalArgumentException | IllegalStateException error) {
      throw new Failure(context, R.string.no_decoder, kind); // CodecException is among these
    }
  }

  private static boolean isAudio(MediaFormat format) {
    String mime = format.getString(MediaFormat.KEY_MIME);
    return mime != null && mime.startsWith("audio/");
  }

  @Override
  public int rateHz() {
    return rateHz;
  }

  /** Length in seconds by the file's own words; 0 where it does not say. */
  double durationS() {
    return durationS;
  }

  @Override
  public float[] next() throws Failure {
    try {
      float[] block = new float[0];
      while (block.length == 0 && !allOut) {
        block = decode();
      }
      return block.length == 0 ? null : block;
    } catch (IllegalStateException | IllegalArgumentException error) {
      throw new Failure(context, R.string.damaged, kind);
    }
  }

  @Override
  public void seek(double seconds) throws Failure {
    try {
      extractor.seekTo((long) (seconds * 1e6), MediaExtractor.SEEK_TO_PREVIOUS_SYNC);
      if (fed) {
        codec.flush(); // before its first input it would lose what configures it
      }
    } catch (IllegalStateException | IllegalArgumentException error) {
      throw new Failure(context, R.string.damaged, kind);
    }
    allIn = false;
    allOut = false;
    wantedS = seconds;
  }

  @Override
  public void close() {
    if (codec != null) {
      codec.release();
    }
    extractor.release();
  }

  /** Some decoded samples; none where the decoder only changed its format. */
  private float[] decode() throws Failure {
    for (int waits = 0; waits < MOST_WAITS; waits++) {
      feed();
      int index = codec.dequeueOutputBuffer(info, WAIT_US);
      if (index == MediaCodec.INFO_OUTPUT_FORMAT_CHANGED) {
        readFormat(codec.getOutputFormat());
        return new float[0];
      }
      if (index >= 0) {
        float[] block = read(codec.getOutputBuffer(index));
        codec.releaseOutputBuffer(index, false);
        allOut = (info.flags & MediaCodec.BUFFER_FLAG_END_OF_STREAM) != 0;
        return block;
      }
    }
    throw new Failure(context, R.string.damaged, kind);
  }

  private void feed() {
    int index = allIn ? -1 : codec.dequeueInputBuffer(0);
    if (index < 0) {
      return;
    }
    fed = true;
    int size = extractor.readSampleData(codec.getInputBuffer(index), 0);
    if (size < 0) {
      codec.queueInputBuffer(index, 0, 0, 0, MediaCodec.BUFFER_FLAG_END_OF_STREAM);
      allIn = true;
    } else {
      codec.queueInputBuffer(index, 0, size, extractor.getSampleTime(), 0);
      extractor.advance();
    }
  }

  private void readFormat(MediaFormat format) throws Failure {
    int rate = integer(format, MediaFormat.KEY_SAMPLE_RATE, rateHz);
    if (begun && rate != rateHz) {
      throw new Failure(context, R.string.rate_changes, rateHz, rate);
    }
    rateHz = rate;
    channels = integer(format, MediaFormat.KEY_CHANNEL_COUNT, channels);
    encoding = integer(format, MediaFormat.KEY_PCM_ENCODING, AudioFormat.ENCODING_PCM_16BIT);
  }

  private float[] read(ByteBuffer buffer) throws Failure {
    if (channels > 2) {
      throw new Failure(context, R.string.too_many_channels, channels);
    }
    begun |= info.size > 0;
    buffer.position(info.offset).limit(info.offset + info.size);
    float[] block = Pcm.toStereo(buffer, encoding, channels);
    if (wantedS < 0.0 || block.length == 0) {
      return block;
    }
    long early = Math.round((wantedS - info.presentationTimeUs / 1e6) * rateHz);
    int dropped = Sink.CHANNELS * (int) Math.max(0, early);
    if (dropped >= block.length) {
      return new float[0];
    }
    wantedS = -1.0;
    return Arrays.copyOfRange(block, dropped, block.length);
  }

  private static int integer(MediaFormat format, String key, int otherwise) {
    return format.containsKey(key) ? format.getInteger(key) : otherwise;
  }
}
