package stemforge.app;

import static org.junit.Assert.assertEquals;

import android.content.ContentProvider;
import android.content.ContentResolver;
import android.content.ContentValues;
import android.content.Context;
import android.content.pm.ProviderInfo;
import android.database.Cursor;
import android.database.MatrixCursor;
import android.media.MediaCodec;
import android.media.MediaExtractor;
import android.media.MediaFormat;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.os.CancellationSignal;
import android.os.Environment;
import android.os.ParcelFileDescriptor;
import android.provider.MediaStore;
import android.provider.OpenableColumns;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.robolectric.Robolectric;
import org.robolectric.annotation.Implementation;
import org.robolectric.annotation.Implements;
import org.robolectric.shadow.api.Shadow;
import org.robolectric.shadows.ShadowMediaCodec;
import org.robolectric.shadows.ShadowStatFs;
import org.robolectric.util.ReflectionHelpers.ClassParameter;

/** What Robolectric's Android lacks: a song in a document provider, codecs, and a MediaStore. */
final class Phone {
  static final int SAMPLES = 150_000;
  static final String MIME = "audio/mpeg";

  private Phone() {}

  /** Noise with a pulse, of 16 bits in stereo. */
  static byte[] song() {
    ByteBuffer out = ByteBuffer.allocate(4 * SAMPLES).order(ByteOrder.LITTLE_ENDIAN);
    Random random = new Random(1);
    for (int n = 0; n < SAMPLES; n++) {
      double loud = 6000.0 * (1.0 + Math.sin(n / 7000.0));
      out.putShort((short) (loud * random.nextGaussian() / 3.0));
      out.putShort((short) (loud * Math.sin(n / 20.0)));
    }
    return out.array();
  }

  /** A document; its decoder returns the bytes as they are. */
  static Uri document(String name, String mime, byte[] pcm) {
    Uri uri = Uri.parse("content://documents/" + Uri.encode(name));
    MediaFormat format = MediaFormat.createAudioFormat(mime, Sink.RATE_HZ, Sink.CHANNELS);
    format.setLong(MediaFormat.KEY_DURATION, pcm.length / 4 * 1_000_000L / Sink.RATE_HZ);
    Extractor.FILES.put(uri, new Track(format, pcm));
    return uri;
  }

  /** Installs all of it but the MediaStore. */
  static void install() {
    ProviderInfo info = new ProviderInfo();
    info.authority = "documents";
    Robolectric.buildContentProvider(Documents.class).create(info);
    setFreeBytes(1 << 30);
    ShadowMediaCodec.CodecConfig copying =
        new ShadowMediaCodec.CodecConfig(8192, 8192, (in, out) -> out.put(in));
    ShadowMediaCodec.addDecoder(MIME, copying);
    ShadowMediaCodec.addEncoder(MediaFormat.MIMETYPE_AUDIO_AAC, copying);
  }

  static void setFreeBytes(int bytes) {
    int blocks = bytes / ShadowStatFs.BLOCK_SIZE;
    ShadowStatFs.registerStats(Environment.getExternalStorageDirectory(), blocks, blocks, blocks);
  }

  static Music installMusic() {
    ProviderInfo info = new ProviderInfo();
    info.authority = MediaStore.AUTHORITY;
    return Robolectric.buildContentProvider(Music.class).create(info).get();
  }

  private static final class Track {
    final MediaFormat format;
    final byte[] pcm;

    Track(MediaFormat format, byte[] pcm) {
      this.format = format;
      this.pcm = pcm;
    }
  }

  /** A MediaExtractor whose files are those of {@link #document}, in frames of 1024 samples. */
  @Implements(MediaExtractor.class)
  public static final class Extractor {
    private static final int FRAME = 1024 * 4; // bytes
    static final Map<Uri, Track> FILES = new HashMap<>();

    private Track track;
    private int position;

    @Implementation
    protected void setDataSource(Context context, Uri uri, Map<String, String> headers)
        throws IOException {
      track = FILES.get(uri);
      if (track == null) {
        throw new IOException("Failed to instantiate extractor.");
      }
    }

    @Implementation
    protected int getTrackCount() {
      return 1;
    }

    @Implementation
    protected MediaFormat getTrackFormat(int index) {
      return track.format;
    }

    @Implementation
    protected void selectTrack(int index) {}

    @Implementation
    protected int readSampleData(ByteBuffer buffer, int offset) {
      int size = Math.min(FRAME, track.pcm.length - position);
      if (size <= 0) {
        return -1;
      }
      buffer.position(offset);
      buffer.put(track.pcm, position, size);
      return size;
    }

    @Implementation
    protected long getSampleTime() {
      return position / 4 * 1_000_000L / Sink.RATE_HZ;
    }

    @Implementation
    protected boolean advance() {
      position += FRAME;
      return position < track.pcm.length;
    }

    @Implementation
    protected void seekTo(long timeUs, int mode) {
      position = (int) (timeUs * Sink.RATE_HZ / 1_000_000L * 4 / FRAME) * FRAME;
    }

    @Implementation
    protected void release() {}
  }

  /** A MediaCodec that has no decoder but that of {@link #MIME}, and is never done at once. */
  @Implements(MediaCodec.class)
  public static final class Codec extends ShadowMediaCodec {
    @Implementation
    @Override
    protected int native_dequeueOutputBuffer(MediaCodec.BufferInfo info, long timeoutUs) {
      if (timeoutUs == 0) {
        return MediaCodec.INFO_TRY_AGAIN_LATER;
      }
      return super.native_dequeueOutputBuffer(info, timeoutUs);
    }

    @Implementation
    protected static MediaCodec createDecoderByType(String type) {
      if (!type.equals(MIME)) {
        throw new IllegalArgumentException("Failed to initialize " + type);
      }
      return Shadow.directlyOn(
          MediaCodec.class, "createDecoderByType", ClassParameter.from(String.class, type));
    }
  }

  /** Documents that another app offers. */
  public static final class Documents extends ContentProvider {
    @Override
    public boolean onCreate() {
      return true;
    }

    @Override
    public ParcelFileDescriptor openFile(Uri uri, String mode) throws FileNotFoundException {
      if (uri.getLastPathSegment().startsWith("gone")) {
        throw new FileNotFoundException(uri.toString());
      }
      try {
        File file = File.createTempFile("document", null);
        return ParcelFileDescriptor.open(file, ParcelFileDescriptor.MODE_READ_ONLY);
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }

    @Override
    public Cursor query(Uri uri, String[] columns, String where, String[] values, String order) {
      MatrixCursor cursor = new MatrixCursor(new String[] {OpenableColumns.DISPLAY_NAME});
      cursor.addRow(new Object[] {uri.getLastPathSegment()});
      return cursor;
    }

    @Override
    public String getType(Uri uri) {
      return MIME;
    }

    @Override
    public Uri insert(Uri uri, ContentValues values) {
      throw new UnsupportedOperationException();
    }

    @Override
    public int delete(Uri uri, String where, String[] values) {
      throw new UnsupportedOperationException();
    }

    @Override
    public int update(Uri uri, ContentValues update, String where, String[] values) {
      throw new UnsupportedOperationException();
    }
  }

  private static final String OWNER = "owner_package_name";

  /** The part of MediaStore that an app without a permission sees: its own files. */
  public static final class Music extends ContentProvider {
    final TreeMap<Long, ContentValues> rows = new TreeMap<>();
    final TreeMap<Long, File> files = new TreeMap<>();
    long unpublishable = -1; // a row that cannot be changed
    boolean full;
    private long last;

    @Override
    public boolean onCreate() {
      return true;
    }

    byte[] read(long id) throws IOException {
      return Files.readAllBytes(files.get(id).toPath());
    }

    @Override
    public Uri insert(Uri uri, ContentValues values) {
      last++;
      ContentValues row = new ContentValues(values);
      if (!row.containsKey(OWNER)) {
        row.put(OWNER, getContext().getPackageName());
      }
      rows.put(last, row);
      try {
        files.put(last, File.createTempFile("music", null));
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
      return Uri.withAppendedPath(uri, Long.toString(last));
    }

    @Override
    public ParcelFileDescriptor openFile(Uri uri, String mode) throws FileNotFoundException {
      // Writing to /dev/full ends in ENOSPC.
      File file = full ? new File("/dev/full") : files.get(id(uri));
      return ParcelFileDescriptor.open(file, ParcelFileDescriptor.parseMode(mode));
    }

    @Override
    public int update(Uri uri, ContentValues update, String where, String[] values) {
      if (id(uri) == unpublishable) {
        return 0;
      }
      rows.get(id(uri)).putAll(update);
      return 1;
    }

    @Override
    public int delete(Uri uri, String where, String[] values) {
      return rows.remove(id(uri)) == null ? 0 : 1;
    }

    /** Pending rows of the named owner; rows are shown that are not pending, or wanted pending. */
    @Override
    public Cursor query(Uri uri, String[] columns, Bundle query, CancellationSignal signal) {
      String where = query.getString(ContentResolver.QUERY_ARG_SQL_SELECTION);
      assertEquals("is_pending=1 AND owner_package_name=?", where);
      String owner = query.getStringArray(ContentResolver.QUERY_ARG_SQL_SELECTION_ARGS)[0];
      boolean shown =
          Build.VERSION.SDK_INT >= Build.VERSION_CODES.R
              ? query.getInt(MediaStore.QUERY_ARG_MATCH_PENDING) == MediaStore.MATCH_INCLUDE
              : "1".equals(uri.getQueryParameter("includePending"));
      MatrixCursor cursor = new MatrixCursor(columns);
      for (long id : rows.keySet()) {
        ContentValues row = rows.get(id);
        boolean pending = row.getAsInteger(MediaStore.MediaColumns.IS_PENDING) == 1;
        if (pending && shown && owner.equals(row.getAsString(OWNER))) {
          cursor.addRow(new Object[] {id});
        }
      }
      return cursor;
    }

    @Override
    public Cursor query(Uri uri, String[] columns, String where, String[] values, String order) {
      throw new UnsupportedOperationException();
    }

    @Override
    public String getType(Uri uri) {
      return StemFormat.WAV.mime;
    }

    private static long id(Uri uri) {
      return Long.parseLong(uri.getLastPathSegment());
    }
  }
}
