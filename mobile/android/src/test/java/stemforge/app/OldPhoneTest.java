package stemforge.app;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import android.Manifest;
import android.app.Activity;
import android.content.Context;
import android.content.Intent;
import android.content.pm.PackageManager;
import android.net.Uri;
import android.os.Environment;
import android.os.ParcelFileDescriptor;
import android.widget.TextView;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.Shadows;
import org.robolectric.annotation.Config;
import org.robolectric.shadows.ShadowActivity;

/** Android 9 and older: files in Music, and a permission for it. */
@RunWith(RobolectricTestRunner.class)
@Config(
    sdk = {26, 28},
    shadows = {Phone.Extractor.class, Phone.Codec.class})
public final class OldPhoneTest {
  private static final byte[] TEXT = "stem".getBytes(StandardCharsets.US_ASCII);

  private final Context context = RuntimeEnvironment.getApplication();
  private final File folder =
      new File(
          Environment.getExternalStoragePublicDirectory(Environment.DIRECTORY_MUSIC), "stemforge");

  @Before
  public void install() {
    Phone.install();
  }

  private MusicFile written() throws IOException {
    MusicFile file = MusicFile.create(context, "Song - vocals", StemFormat.WAV);
    try (FileOutputStream out = new ParcelFileDescriptor.AutoCloseOutputStream(file.open())) {
      out.write(TEXT);
    }
    return file;
  }

  private File named(String name) {
    return new File(folder, name);
  }

  @Test
  public void aFileHasItsNameOnceItIsComplete() throws IOException {
    MusicFile file = written();
    assertFalse(named("Song - vocals.wav").exists());
    Uri uri = file.publish();
    assertEquals(named("Song - vocals.wav").getPath(), uri.getPath());
    assertArrayEquals(TEXT, Files.readAllBytes(named("Song - vocals.wav").toPath()));
  }

  @Test
  public void aSecondFileOfANameGetsANumber() throws IOException {
    written().publish();
    assertEquals(named("Song - vocals (1).wav").getPath(), written().publish().getPath());
  }

  @Test
  public void whatIsDiscardedIsGone() throws IOException {
    written().discard();
    MusicFile published = written();
    published.publish();
    published.discard(); // since a later stem could not be published
    assertEquals(0, folder.list().length);
  }

  @Test
  public void removesWhatAKilledRunHasLeft() throws IOException {
    written();
    written().publish();
    MusicFile.discardLeftovers(context);
    assertArrayEquals(new String[] {"Song - vocals.wav"}, folder.list());
  }

  @Test
  public void takesNamesOfAnyLength() throws IOException {
    StringBuilder name = new StringBuilder();
    for (int n = 0; n < 300; n++) {
      name.append("ä/");
    }
    MusicFile file = MusicFile.create(context, name + " - vocals", StemFormat.WAV);
    String published = file.publish().getLastPathSegment();
    assertTrue(published, published.endsWith("ä_ - vocals.wav"));
  }

  @Test
  public void asksForThePermissionToWrite() {
    MainActivity screen = Robolectric.buildActivity(MainActivity.class).setup().get();
    ShadowActivity shadow = Shadows.shadowOf((Activity) screen);
    screen.findViewById(R.id.choose).performClick();
    String asked = shadow.getLastRequestedPermission().requestedPermissions[0];
    assertEquals(Manifest.permission.WRITE_EXTERNAL_STORAGE, asked);
    int[] denied = {PackageManager.PERMISSION_DENIED};
    screen.onRequestPermissionsResult(2, new String[] {asked}, denied);
    TextView status = screen.findViewById(R.id.status);
    assertTrue(status.getText().toString().contains("allow it to store files"));
    screen.onRequestPermissionsResult(
        2, new String[] {asked}, new int[] {PackageManager.PERMISSION_GRANTED});
    Intent picking = shadow.getNextStartedActivity();
    while (picking != null && !Intent.ACTION_OPEN_DOCUMENT.equals(picking.getAction())) {
      picking = shadow.getNextStartedActivity();
    }
    assertEquals("audio/*", picking.getType());
  }
}
